"""The tables' pages in a headless Chromium, through a real gateway, signed in with its cookie.

Skipped with its reason where Chromium is not installed; in CI that is a failure. HEADRACE_TEST_SCREENSHOT=FILE.png
keeps the page of one tool as a picture: docs/tables/page.png is made so.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from runtime.settings import Settings
from tests.support.aio import run
from tests.support.browser import ARGUMENTS, program
from tests.support.gateway import free_port, gateway, token
from tests.support.table_workers import AUTH, CLOCK, Worker, workers
from tests.support.tables import BASE_MS, latency_kind

if TYPE_CHECKING:
    from playwright.async_api import Page

KIND = latency_kind()
NASTY = '<img src=x onerror="document.title=1">'
WINDOWS = 60

pytestmark = [pytest.mark.browser]


@asynccontextmanager
async def open_page(**how: str) -> AsyncIterator[Page]:
    """A page; what breaks its policy, and every script error, fails the test."""
    from playwright.async_api import async_playwright

    errors: list[str] = []
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program(), args=[*ARGUMENTS, *sandbox])
        page = await browser.new_page(**how)  # type: ignore[arg-type]  # Playwright's own words for colour schemes
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
        try:
            yield page
        finally:
            await browser.close()
    assert not errors


def at(kafka_url: str, prefix: str, worker: Worker) -> Settings:
    return Settings.model_validate(
        {
            "prefix": prefix,
            "kafka": {"bootstrap": kafka_url, "idempotence": False},
            "auth": {"secret": AUTH.secret.get_secret_value()},
            "gateway": {"port": free_port(), "drain_s": 0.1, "worker_urls": (worker.url,)},
        }
    )


def fill(worker: Worker) -> None:
    """A quarter of an hour of two tools, with a hole, and one whose name would be a script."""
    start_ms = int(1000 * CLOCK.wall_s()) // BASE_MS * BASE_MS
    for n in range(WINDOWS):
        at_ms = start_ms - (WINDOWS - 1 - n) * BASE_MS
        slow = 1 + 0.6 * math.sin(n / 7)
        if not 20 <= n < 24:
            calls = [slow * (20 + (37 * k * (n + 3)) % 180 + (300 if k % 19 == 0 else 0)) for k in range(80)]
            worker.local.put(("search", "2.1"), at_ms, calls)
        worker.local.put(("price", ""), at_ms, [slow * (5 + k % 9) for k in range(20 + n % 5)])
    worker.local.put((NASTY, ""), start_ms, [1.0])


async def sign_in(page: Page, settings: Settings) -> str:
    address = f"http://127.0.0.1:{settings.gateway.port}/"
    await page.goto(f"{address}#token={token(settings)}")
    await page.wait_for_selector("#state[data-state=live]")
    return f"{address}v1/tables/"


def test_a_signed_in_browser_walks_from_the_tables_to_one_tools_charts(
    kafka_url: str, prefix: str, clean_environment: None
):
    del clean_environment

    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,), open_page() as page:
            fill(worker)
            settings = at(kafka_url, prefix, worker)
            async with gateway(settings):
                tables = await sign_in(page, settings)
                await page.goto(tables)
                await page.click("text=tool_latency")
                assert await page.locator("tbody tr:has-text('search / 2.1') svg.spark").count() >= 1
                assert NASTY in (await page.text_content("main") or "")
                assert await page.locator("img").count() == 0
                await page.click("a:has-text('search / 2.1')")
                assert page.url.endswith("/v1/tables/tool_latency/search/2.1")
                charts = page.locator("svg.chart[role=img]")
                assert await charts.count() == len({column.chart for column in KIND.columns if column.chart})
                assert "p95_ms: from" in (await charts.last.locator("desc").text_content() or "")
                paths = await charts.last.locator("path.line").evaluate_all("all => all.map(p => p.getAttribute('d'))")
                assert len(paths) == 3
                assert all(path.count("M") == 2 for path in paths), "the hole is drawn as one"
                await page.set_viewport_size({"width": 1200, "height": 860})
                await page.screenshot(path=os.environ.get("HEADRACE_TEST_SCREENSHOT"), full_page=False)
                await page.fill("input[name=size]", "1m")
                await page.click("button[type=submit]")
                assert "size=1m" in page.url
                assert 10 <= await page.locator("tbody tr").count() <= 12
                await page.click("text=all tables")
                assert page.url == tables

    run(scenario(), timeout_s=90)


def test_the_page_fits_a_phone_and_follows_the_dark(kafka_url: str, prefix: str, clean_environment: None):
    del clean_environment

    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,), open_page(color_scheme="dark") as page:
            fill(worker)
            settings = at(kafka_url, prefix, worker)
            async with gateway(settings):
                tables = await sign_in(page, settings)
                await page.set_viewport_size({"width": 360, "height": 780})
                await page.goto(f"{tables}tool_latency/search/2.1")
                assert await page.evaluate("document.documentElement.scrollWidth") == 360
                style = "getComputedStyle(document.body).backgroundColor"
                assert await page.evaluate(style) == "rgb(14, 20, 25)"
                line = "getComputedStyle(document.querySelector('path.line.s1')).stroke"
                assert await page.evaluate(line) == "rgb(116, 174, 247)"

    run(scenario(), timeout_s=90)


def test_without_a_session_there_is_no_page(kafka_url: str, prefix: str, clean_environment: None):
    del clean_environment

    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,), open_page() as page:
            fill(worker)
            settings = at(kafka_url, prefix, worker)
            async with gateway(settings):
                answer = await page.goto(f"http://127.0.0.1:{settings.gateway.port}/v1/tables/tool_latency/")
                assert answer is not None
                assert answer.status == 401
                assert worker.asked == []

    run(scenario(), timeout_s=90)
