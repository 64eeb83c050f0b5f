"""The page in a headless Chromium, on a real gateway and a real broker.

Skipped with its reason where Chromium is not installed; in CI (CI=true) that is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from contracts import push
from contracts.alerts import AlertRaised, AlertResolved
from contracts.derived import ToolLatencyWindow
from contracts.lag import Lag
from contracts.names import TenantId
from runtime.settings import Settings
from tests.support.aio import run
from tests.support.gateway import CLOCK, free_port, gateway, order, producer, record, send, token

if TYPE_CHECKING:
    from playwright.async_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("CI") != "true",
        reason="Chromium is not installed (Debian: apt install chromium); CI=true makes this a failure",
    ),
]


@pytest.fixture
def at(kafka_url: str, prefix: str, clean_environment: None) -> Settings:
    del clean_environment
    return Settings.model_validate(
        {
            "prefix": prefix,
            "kafka": {"bootstrap": kafka_url, "idempotence": False},
            "auth": {"secret": "only-for-tests-" + "0" * 32},
            "gateway": {"port": free_port(), "drain_s": 0.1, "worker_urls": ()},
        }
    )


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """A page whose every script error fails the test."""
    from playwright.async_api import async_playwright

    assert CHROMIUM is not None, "CI needs Chromium"
    errors: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
        try:
            yield page
        finally:
            await browser.close()
    assert not errors


def address(at: Settings) -> str:
    return f"http://127.0.0.1:{at.gateway.port}/"


def window(number: int) -> push.PushMessage:
    start = CLOCK.now().replace(microsecond=0) - timedelta(seconds=10 * (30 - number))
    return push.of_window(
        ToolLatencyWindow(
            version="1.0",
            tenant_id=TenantId("acme"),
            ts=start + timedelta(seconds=10),
            tool="search",
            window_start=start,
            window_end=start + timedelta(seconds=10),
            count=50,
            errors=1,
            sum_us=5_000_000,
            p50_ms=80.0 + number,
            p95_ms=200.0 + number,
            p99_ms=400.0,
            max_ms=500.0,
            closed=True,
            revision=number + 1,
        )
    )


def alert(kind: type[AlertRaised | AlertResolved], **more: object) -> push.PushMessage:
    fields: dict[str, object] = {
        "version": "1.0",
        "tenant_id": TenantId("acme"),
        "ts": CLOCK.now(),
        "alert_id": "tool_latency_high:search:1",
        "name": "tool_latency_high",
        "subject": "search",
        "severity": "warning",
        "value_ms": 2500.0,
        "threshold_ms": 1000.0,
        "started_at": CLOCK.now(),
        "playbook": "docs/playbooks/tool-latency-high.md",
        "labels": {},
    }
    return push.of_alert(kind(**fields, **more))  # type: ignore[arg-type]  # the fields are checked by msgspec


def test_the_page_signs_in_with_a_token_and_shows_orders_windows_alerts_and_lag(at: Settings):
    async def scenario() -> None:
        async with gateway(at), open_page() as page, producer(at) as sender:
            await page.goto(address(at))
            await page.fill("#token", "nonsense")
            await page.click("#sign-in-form button")
            await page.wait_for_function("document.getElementById('sign-in-error').textContent.includes('not valid')")
            await page.fill("#token", token(at))
            await page.click("#sign-in-form button")
            await page.wait_for_selector("#state[data-state=live]")
            assert await page.text_content("#tenant") == "acme"

            await send(at, order("acme", 1, order_id="1f0c2d3e-aaaa-4bbb-8ccc-0123456789ab"), order("globex", 2))
            await page.wait_for_selector("#orders-rows tr:has-text('1f0c2d3e')")
            assert await page.locator("#orders-rows tr").count() == 1

            await send(at, *(window(number) for number in range(20)))
            await page.wait_for_selector("#tools-rows tr:has-text('219 ms')")
            await page.wait_for_selector("#chart canvas")
            assert await page.text_content("#chart-title") == "search"
            assert await _coloured(page) >= 3

            await send(at, alert(AlertRaised))
            await page.wait_for_selector("#alerts-firing .alert:has-text('2.50 s')")
            assert await page.text_content("#alerts-count") == "1 firing"
            await send(at, alert(AlertResolved, resolved_at=CLOCK.now()))
            await page.wait_for_selector("#alerts-resolved .alert:has-text('search')")
            assert await page.locator("#alerts-firing .alert").count() == 0

            lag = Lag(
                outbox_rows=7,
                outbox_oldest_s=1.5,
                stream_entries=0,
                stream_oldest_s=0,
                consumer_records=3,
                at=CLOCK.now(),
            )
            await sender.send_all([record(at.prefix, push.of_lag(lag), latest="lag")])
            await page.wait_for_selector("#lag-rows .lag-row:has-text('oldest 1.5 s')")

    run(scenario(), timeout_s=90)


def test_the_page_comes_back_by_itself_after_the_gateway_restarts_and_misses_nothing(at: Settings):
    async def scenario() -> None:
        async with open_page() as page:
            async with gateway(at):
                await page.goto(f"{address(at)}#token={token(at)}")
                await page.wait_for_selector("#state[data-state=live]")
                assert "token" not in page.url
                await send(at, order("acme", 1, order_id="before"))
                await page.wait_for_selector("#orders-rows tr:has-text('before')")
            await page.wait_for_selector("#state[data-state=reconnecting]")
            await send(at, order("acme", 2, order_id="meanwhile"), order("acme", 1, order_id="before"))
            async with gateway(at):
                await page.wait_for_selector("#state[data-state=live]")
                await page.wait_for_selector("#orders-rows tr:has-text('meanwhile')")
                await send(at, order("acme", 3, order_id="after"))
                await page.wait_for_selector("#orders-rows tr:has-text('after')")
                texts = await page.locator("#orders-rows tr td:nth-child(2)").all_text_contents()
                assert texts == ["after", "meanwhile", "before"]

    run(scenario(), timeout_s=90)


def test_the_page_fits_a_phone(at: Settings):
    async def scenario() -> None:
        async with gateway(at), open_page() as page:
            await page.set_viewport_size({"width": 360, "height": 780})
            await page.goto(f"{address(at)}#token={token(at)}")
            await page.wait_for_selector("#state[data-state=live]")
            await send(at, order("acme", 1), *(window(number) for number in range(3)), alert(AlertRaised))
            await page.wait_for_selector("#alerts-firing .alert")
            await page.wait_for_selector("#chart canvas")
            assert await page.evaluate("document.documentElement.scrollWidth") == 360

    run(scenario(), timeout_s=90)


async def _coloured(page: Page) -> int:
    """How many of the three percentile colours the chart's canvas really shows."""
    script = """(names) => {
      const canvas = document.querySelector("#chart canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const style = getComputedStyle(document.documentElement);
      const wanted = names.map((name) => parseInt(style.getPropertyValue(name).trim().slice(1), 16));
      const seen = new Set();
      for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] > 200) seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
      }
      return wanted.filter((colour) => seen.has(colour)).length;
    }"""
    found: int = json.loads(json.dumps(await page.evaluate(script, ["--p50", "--p95", "--p99"])))
    return found
