"""The operators' page of dead letters in a headless Chromium, on a real gateway and a real control process."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Route, async_playwright

from runtime.settings import Settings
from streams import postgres, topics
from streams.dead_letters import DeadLetters
from streams.kafka_log import Cluster
from tests.support.aio import run
from tests.support.browser import ARGUMENTS, program
from tests.support.control import running, token, with_control
from tests.support.gateway import gateway
from tests.support.letters import RuleKeepingConsumer, record_letter

pytestmark = pytest.mark.browser


def test_an_operator_sees_what_failed_requeues_it_and_sees_it_recover(settings: Settings):
    settings = with_control(settings)
    chromium = program()

    async def main() -> None:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await topics.ensure(cluster, settings)
        await cluster.stop()
        async with postgres.pool(settings.postgres, name="worker", size=2) as pool:
            letters = DeadLetters(pool, settings.postgres)
            evil = "<img src=x onerror=alert(1)>"
            await letters.bury([record_letter(n, error_text=evil) for n in range(3)])
            await letters.bury([record_letter(9, error_class="BadJson", payload=b"\xff\x00")])
            consumer = RuleKeepingConsumer(settings, letters)
            async with running(settings), gateway(settings), async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=chromium, args=[*ARGUMENTS, "--no-sandbox"], timeout=30_000
                )
                page = await browser.new_page()
                errors: list[str] = []
                page.on("pageerror", lambda error: errors.append(str(error)))
                page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
                await page.goto(f"http://127.0.0.1:{settings.gateway.port}/dead-letters#token={token(settings)}")
                await page.wait_for_selector("#groups-rows tr:has-text('Unavailable')")
                assert await page.inner_text("#groups-count") == "4 dead"
                assert evil in await page.inner_text("#found-rows")

                await page.click("#groups-rows tr:has-text('Unavailable') button:has-text('Requeue')")
                await page.fill("#ask-why", "the shop is back")
                await page.click("#ask-do")
                await page.wait_for_selector("#requeues-rows tr:has-text('the shop is back')")
                async with asyncio.timeout(20):
                    while "done" not in await page.inner_text("#requeues-rows"):
                        await consumer.consume()
                        await asyncio.sleep(0.1)
                await page.wait_for_selector("#groups-count:has-text('1 dead')")

                await page.click("#found-rows button.open:has-text('4')")
                await page.wait_for_selector("#letter[open]")
                assert "/wA=" in await page.inner_text("#letter-payload")
                await page.click("#letter-discard")
                await page.click("#ask-do")  # without a reason
                assert await page.is_visible("#ask")
                await page.fill("#ask-why", "broken for good")
                await page.click("#ask-do")
                await page.wait_for_selector("#groups-empty:not([hidden])")
                assert not errors
                await browser.close()

    run(main(), 90)


def test_a_clients_token_is_asked_for_an_operators(settings: Settings):
    settings = with_control(settings)
    chromium = program()

    async def main() -> None:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await topics.ensure(cluster, settings)
        await cluster.stop()
        async with gateway(settings), async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=[*ARGUMENTS, "--no-sandbox"], timeout=30_000
            )
            page = await browser.new_page()
            client = token(settings, operator=False)
            await page.goto(f"http://127.0.0.1:{settings.gateway.port}/dead-letters#token={client}")
            await page.wait_for_selector("#sign-in-error:has-text('an operator')")
            assert await page.is_hidden("#letters-page")
            await browser.close()

    run(main(), 60)


def test_the_page_asks_a_gateway_that_is_away_again_and_tells_when_nothing_moved(settings: Settings):
    settings = with_control(settings)
    chromium = program()
    asked: list[str] = []

    async def away_once(route: Route) -> None:
        asked.append(route.request.method)
        if len(asked) == 1:
            await route.abort()
        else:
            await route.continue_()

    async def main() -> None:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await topics.ensure(cluster, settings)
        await cluster.stop()
        async with postgres.pool(settings.postgres, name="worker", size=1) as pool:
            await DeadLetters(pool, settings.postgres).bury([record_letter(1, source="backfill")])
        async with running(settings), gateway(settings), async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=[*ARGUMENTS, "--no-sandbox"], timeout=30_000
            )
            page = await browser.new_page()
            await page.route("**/v1/session", away_once)
            await page.goto(f"http://127.0.0.1:{settings.gateway.port}/dead-letters")
            await page.wait_for_selector("#token:visible")
            assert asked == ["GET", "GET"]
            await page.fill("#token", token(settings))
            await page.click("#sign-in-form button")
            await page.click("#groups-rows button:has-text('Requeue')")
            await page.fill("#ask-why", "a try")
            await page.click("#ask-do")
            await page.wait_for_selector("#ask-error:has-text('no consumer takes letters of backfill back')")
            await browser.close()

    run(main(), 60)
