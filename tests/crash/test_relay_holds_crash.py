"""A relay is killed while rows go on hold, and while they leave it: none is lost, doubled, early or out of order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial

import asyncpg
import pytest

from contracts.names import Stream
from runtime.settings import Settings
from streams import tenants
from streams.redis_log import RedisLog
from tests.crash.test_relay_crash import count, drained, relay
from tests.integration.test_relay import Bench, stepped
from tests.support.aio import run
from tests.support.outbox import CLEAN, entries, fill, insert, payload

ROWS = 400
HELD = 60


def asked(settings: Settings, question: Callable[[asyncpg.Connection], Awaitable[object]]) -> object:
    async def main() -> object:
        connection = await asyncpg.connect(settings.postgres.url)
        try:
            return await question(connection)
        finally:
            await connection.close()

    return run(main())


def held(settings: Settings) -> object:
    return asked(settings, lambda c: c.fetchval("SELECT count(*) FROM headrace.hold"))


async def put_on_hold(b: Bench) -> None:
    assert await b.drain() == ROWS
    assert await b.ids() == []


def until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    async def main() -> None:
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.1)

    run(main(), timeout_s)


@pytest.mark.parametrize("point", ["claimed", "held"])
def test_a_relay_that_is_killed_while_rows_go_on_hold_publishes_none_of_them(settings: Settings, point: str):
    asked(settings, lambda c: tenants.pause(c, "t1", why="a test", by="me"))
    run(fill(settings.postgres.url, ROWS))
    with relay(settings, point, batch=3) as first:
        assert first.wait(90) == -signal.SIGKILL
    with relay(settings, "none"):
        until(lambda: held(settings) == ROWS)
        assert count(settings) == 0
        asked(settings, lambda c: tenants.resume(c, "t1", why="a test", by="me"))
        assert drained(settings) == CLEAN
    assert count(settings) == ROWS
    assert held(settings) == 0


@pytest.mark.parametrize("point", ["claimed", "mid", "published", "released", "marked", "committed"])
def test_a_relay_that_is_killed_while_rows_leave_their_hold_loses_doubles_and_reorders_nothing(
    settings: Settings, point: str
):
    asked(settings, lambda c: tenants.pause(c, "t1", why="a test", by="me"))
    run(fill(settings.postgres.url, ROWS))
    stepped(settings, put_on_hold)
    asked(settings, lambda c: tenants.resume(c, "t1", why="a test", by="me"))
    run(fill(settings.postgres.url, ROWS))
    with relay(settings, point, batch=2) as first:
        assert first.wait(90) == -signal.SIGKILL
    with relay(settings, "none"):
        assert drained(settings) == CLEAN
    assert count(settings) == 2 * ROWS
    assert held(settings) == 0


def test_three_relays_that_are_killed_while_a_tenant_is_paused_and_resumed_keep_every_order(settings: Settings):
    share = {"HEADRACE_RELAY__SHARDS": "22", "HEADRACE_RELAY__BATCH_ROWS": "15"}

    async def orders() -> dict[bytes, list[int]]:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        found: dict[bytes, list[int]] = {}
        try:
            for entry in await entries(redis, settings.prefix, Stream.ORDERS):
                found.setdefault(entry.fields["aggregate_id"], []).append(int(entry.fields["event_id"]))
        finally:
            await redis.close()
        return found

    async def write(connection: asyncpg.Connection) -> None:
        for number in range(2 * HELD):
            tenant = "ab"[number % 2]
            await insert(connection, payload(f"{tenant}{number % 6}", tenant_id=tenant), f"{tenant}{number % 6}")

    with ExitStack() as stack:
        relays = [stack.enter_context(relay(settings, "none", 1, **share)) for _ in range(3)]
        for number in range(6):
            move = tenants.resume if number % 2 else tenants.pause
            asked(settings, partial(move, tenant_id="a", why="a test", by="me"))
            asked(settings, write)
            if not number:
                until(lambda: held(settings) == HELD)
            run(asyncio.sleep(0.7))
            relays[number % 3].kill()
            relays[number % 3] = stack.enter_context(relay(settings, "none", 1, **share))
        assert drained(settings) == CLEAN
    assert all(ids == sorted(ids) for ids in run(orders()).values())
    assert count(settings) == 6 * 2 * HELD
