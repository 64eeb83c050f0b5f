"""The operators' page of dead letters in a headless Chromium, on a real gateway and a real control process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, Response, Route, async_playwright
from pydantic import SecretStr

from runtime.settings import Settings
from streams import postgres, topics
from streams.dead_letters import DeadLetter, DeadLetters
from streams.kafka_log import Cluster
from tests.support.aio import run
from tests.support.browser import ARGUMENTS, program
from tests.support.control import running, token, with_control
from tests.support.gateway import gateway
from tests.support.letters import RuleKeepingConsumer, record_letter

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>"
EXACT = b'{"n":12345678901234567890,"a":[],"a":1.50}'
LETTERS = (
    *(record_letter(n, error_text=EVIL, payload=EXACT) for n in range(3)),
    record_letter(9, error_class="BadJson", payload=b"\xff\x00"),
)


class Bench:
    """A page beside a consumer of what is requeued."""

    def __init__(self, settings: Settings, page: Page, letters: DeadLetters) -> None:
        self.settings = settings
        self.page = page
        self.consumer = RuleKeepingConsumer(settings, letters)
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    async def go(self, *, operator: bool = True) -> None:
        bearer = token(self.settings, operator=operator)
        await self.page.goto(f"http://127.0.0.1:{self.settings.gateway.port}/dead-letters#token={bearer}")


@asynccontextmanager
async def opened(settings: Settings, *buried: DeadLetter, secret: str = "") -> AsyncIterator[Bench]:
    """A new page, with these letters behind it; `secret`: the control process has another one than the gateway."""
    chromium, settings = program(), with_control(settings)
    auth = settings.auth.model_copy(update={"secret": SecretStr(secret)}) if secret else settings.auth
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()
    async with postgres.pool(settings.postgres, name="worker", size=2) as pool:
        letters = DeadLetters(pool, settings.postgres)
        for letter in buried:
            await letters.bury([letter])
        other = settings.model_copy(update={"auth": auth})
        async with running(other), gateway(settings), async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=[*ARGUMENTS, "--no-sandbox"], timeout=30_000
            )
            yield Bench(settings, await browser.new_page(), letters)
            await browser.close()


def test_an_operator_sees_what_failed_requeues_it_and_sees_it_recover(settings: Settings):
    async def main() -> None:
        async with opened(settings, *LETTERS) as at:
            page = at.page
            await at.go()
            await page.wait_for_selector("#groups-rows tr:has-text('Unavailable')")
            assert await page.inner_text("#groups-count") == "4 dead"

            await page.click("#groups-rows tr:has-text('Unavailable') button:has-text('Requeue')")
            await page.fill("#ask-why", "the shop is back")
            await page.click("#ask-do")
            await page.wait_for_selector("#requeues-rows tr:has-text('the shop is back')")
            async with asyncio.timeout(30):
                while "done" not in await page.inner_text("#requeues-rows"):
                    await at.consumer.consume()
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
            assert not at.errors

    run(main(), 90)


def test_letters_are_shown_as_they_are_and_those_of_a_group_alone(settings: Settings):
    async def main() -> None:
        async with opened(settings, *LETTERS, record_letter(10, topic="p.voice", error_class="BadJson")) as at:
            page = at.page
            await at.go()
            await page.wait_for_selector("#found-rows tr:has-text('Unavailable')")
            assert EVIL in await page.inner_text("#found-rows")
            await page.click("#found-rows button.open:has-text('1')")
            await page.wait_for_selector("#letter[open]")
            shown = '{\n  "n": 12345678901234567890,\n  "a": [],\n  "a": 1.50\n}'
            assert await page.inner_text("#letter-payload") == shown
            await page.click("#letter-close")
            await page.click("#groups-rows tr:has-text('voice') button:has-text('Show')")
            await page.wait_for_selector("#found-rows tr:only-child button.open:has-text('5')")
            assert not at.errors

    run(main(), 60)


def test_a_clients_token_is_asked_for_an_operators(settings: Settings):
    async def main() -> None:
        async with opened(settings) as at:
            await at.go(operator=False)
            await at.page.wait_for_selector("#sign-in-error:has-text('an operator')")
            assert await at.page.is_hidden("#letters-page")

    run(main(), 60)


def test_a_token_that_only_the_gateway_takes_is_told_and_the_page_is_not_loaded_again_and_again(settings: Settings):
    async def main() -> None:
        async with opened(settings, secret="of the control process alone " * 2) as at:
            loads: list[Page] = []
            asked = asyncio.Semaphore(0)

            def answered(answer: Response) -> None:
                if "/v1/control/" in answer.url:
                    asked.release()

            at.page.on("load", lambda page: loads.append(page))  # noqa: PLW0108 - a bound builtin cannot be wrapped
            at.page.on("response", answered)
            await at.go()
            for _ in range(6):  # two looks
                await asked.acquire()
            await at.page.wait_for_selector("#state-text:has-text('the token is not valid')")
            assert len(loads) == 1

    run(main(), 60)


def test_the_page_asks_a_gateway_that_is_away_again_and_tells_when_nothing_moved(settings: Settings):
    asked: list[str] = []

    async def away_once(route: Route) -> None:
        asked.append(route.request.method)
        if len(asked) == 1:
            await route.abort()
        else:
            await route.continue_()

    async def main() -> None:
        async with opened(settings, record_letter(1, source="backfill")) as at:
            page = at.page
            await page.route("**/v1/session", away_once)
            await page.goto(f"http://127.0.0.1:{at.settings.gateway.port}/dead-letters")
            await page.wait_for_selector("#token:visible")
            assert asked == ["GET", "GET"]
            await page.fill("#token", token(at.settings))
            await page.click("#sign-in-form button")
            await page.click("#groups-rows button:has-text('Requeue')")
            await page.fill("#ask-why", "a try")
            await page.click("#ask-do")
            await page.wait_for_selector("#ask-error:has-text('no consumer takes letters of backfill back')")

    run(main(), 60)
