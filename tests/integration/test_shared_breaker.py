"""Breakers of several processes on a real Redis: each "process" here is a Reliability with a connection of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from contracts.call_errors import BreakerOpen
from headrace import embedded
from reliability.breaker import Breaker
from reliability.breaker_machine import Mode, State
from reliability.registry import Reliability
from runtime.clock import ManualClock, SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.redis_log import RedisLog
from streams.reliability_report import ReliabilityBoard, ReliabilityReport
from streams.shared_breaker import SharedBreakers
from tests.support.aio import run

EVERY_S = 0.05
RULES = {"shared": True, "min_calls": 5, "open_s": 0.3, "open_max_s": 0.6, "scout_s": 0, "half_open_max_s": 1.0}


class Process(NamedTuple):
    """One process' side."""

    breaker: Breaker
    reliability: Reliability
    share: SharedBreakers


@asynccontextmanager
async def processes(
    settings: Settings, count: int, *, name: str = "worker", **rules: object
) -> AsyncIterator[list[Process]]:
    """Processes that share the breaker "shop"."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            own = settings.model_copy(update={"breaker": type(settings.breaker).model_validate(RULES | rules)})
            redis = RedisLog(own.redis, own.prefix, client_name=f"test-{number}")
            stack.push_async_callback(redis.close)
            reliability = Reliability(own, f"{name}-{number}", clock, Metrics())
            breaker = reliability.dependency("shop").breaker
            share = SharedBreakers(redis, own.prefix, reliability.process, reliability, clock)
            task = asyncio.create_task(share.run(EVERY_S))
            stack.push_async_callback(ended, task)
            made.append(Process(breaker, reliability, share))
        yield made


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def fail(breaker: Breaker, times: int = 5) -> None:
    for _ in range(times):
        breaker.failed(breaker.acquire(), 0.01, ConnectionResetError())


def passed(of: list[Process], calls: int) -> list[tuple[Breaker, int]]:
    """The permits that `calls` callers of each process got."""
    permits = []
    for process in of:
        for _ in range(calls):
            try:
                permits.append((process.breaker, process.breaker.acquire()))
            except BreakerOpen:
                continue
    return permits


def more(permits: list[tuple[Breaker, int]], got: list[tuple[Breaker, int]]) -> list[tuple[Breaker, int]]:
    permits += got
    return permits


async def probes(of: list[Process]) -> list[tuple[Breaker, int]]:
    """All that a half open breaker gives."""
    permits: list[tuple[Breaker, int]] = []
    await until(lambda: len(more(permits, passed(of, 1))) == 3)
    return permits


def states(of: list[Process]) -> list[State]:
    return [process.breaker.state for process in of]


def test_one_process_that_fails_alone_stops_only_itself_and_two_stop_all(settings: Settings):
    async def body() -> None:
        async with processes(settings, 4, open_s=30, open_max_s=30) as all_:
            fail(all_[0].breaker)
            await asyncio.sleep(6 * EVERY_S)
            assert states(all_) == [State.OPEN, State.CLOSED, State.CLOSED, State.CLOSED]
            fail(all_[1].breaker)
            await until(lambda: states(all_) == [State.OPEN] * 4)

    run(body())


def test_all_processes_together_let_three_probes_through_and_close_when_they_are_good(settings: Settings):
    async def body() -> None:
        async with processes(settings, 4, half_open_max_s=60) as all_:
            fail(all_[0].breaker)
            fail(all_[1].breaker)
            await until(lambda: states(all_) == [State.OPEN] * 4)
            permits: list[tuple[Breaker, int]] = []
            await until(lambda: len(more(permits, passed(all_, 4))) >= 3)
            for _ in range(30):
                permits += passed(all_, 4)
                await asyncio.sleep(0.01)
            assert len(permits) == 3
            assert len({id(breaker) for breaker, _ in permits}) == 1
            for breaker, permit in permits:
                breaker.succeeded(permit, 0.01)
            await until(lambda: states(all_) == [State.CLOSED] * 4)
            await asyncio.sleep(6 * EVERY_S)
            assert states(all_) == [State.CLOSED] * 4

    run(body())


def test_bad_probes_of_one_process_make_all_wait(settings: Settings):
    async def body() -> None:
        clock = SystemClock()
        async with processes(settings, 3, open_max_s=30, open_jitter_ratio=0, half_open_max_s=60) as all_:
            fail(all_[0].breaker)
            fail(all_[1].breaker)
            await until(lambda: states(all_) == [State.OPEN] * 3)
            permits: list[tuple[Breaker, int]] = []
            await until(lambda: bool(more(permits, passed(all_, 5))))
            failed_s = clock.monotonic_s()
            for breaker, permit in permits:
                breaker.failed(permit, 0.01, ConnectionResetError())
            # 0.3 s doubled: nobody probes for 0.6 s, though the others' own waits are over.
            await until(lambda: bool(passed(all_, 5)))
            assert clock.monotonic_s() - failed_s >= 0.55

    run(body())


def test_a_prober_that_dies_is_replaced_when_its_lease_ends(settings: Settings):
    async def body() -> None:
        async with processes(settings, 2) as all_:
            fail(all_[0].breaker)
            fail(all_[1].breaker)
            first: list[tuple[Breaker, int]] = []
            await until(lambda: bool(more(first, passed(all_, 1))))
            others = [process for process in all_ if process.breaker is not first[0][0]]
            await until(lambda: bool(passed(others, 1)))

    run(body())


def test_a_process_that_starts_while_the_others_are_open_opens_too(settings: Settings):
    async def body() -> None:
        async with processes(settings, 2, open_s=30, open_max_s=30) as first:
            for process in first:
                fail(process.breaker)
            async with processes(settings, 3, name="later", open_s=30, open_max_s=30) as more:
                await until(lambda: states(more) == [State.OPEN] * 3)

    run(body())


def test_a_redis_that_forgets_everything_closes_nobody_and_the_breakers_still_recover(settings: Settings):
    async def body() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        keys = [f"{{{settings.prefix}:breaker:shop}}:{kind}" for kind in ("votes", "probe", "state")]
        async with processes(settings, 3, open_s=1.0, open_max_s=1.0, half_open_max_s=60) as all_:
            for _ in range(2):
                fail(all_[0].breaker)
                fail(all_[1].breaker)
                await until(lambda: states(all_) == [State.OPEN] * 3)
                await redis.call("DEL", *keys)
                await asyncio.sleep(4 * EVERY_S)
                assert states(all_) == [State.OPEN] * 3
                for breaker, permit in await probes(all_):
                    breaker.succeeded(permit, 0.01)
                await until(lambda: states(all_) == [State.CLOSED] * 3)
        await redis.close()

    run(body(), 60)


def test_a_frozen_redis_stops_no_call_and_each_process_then_probes_alone(settings: Settings, tmp_path: Path):
    async def body() -> None:
        servers = await embedded.start(tmp_path, {"redis": "embedded"})
        pid = servers.pids["redis"]
        try:
            own = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": servers.url("redis")})})
            async with processes(own, 2) as all_:
                fail(all_[0].breaker)
                fail(all_[1].breaker)
                await asyncio.sleep(2 * EVERY_S)
                os.kill(pid, signal.SIGSTOP)
                permits: list[tuple[Breaker, int]] = []
                await until(lambda: len({id(breaker) for breaker, _ in more(permits, passed(all_, 1))}) == 2)
                assert states(all_) == [State.HALF_OPEN] * 2
                os.kill(pid, signal.SIGCONT)
        finally:
            os.kill(pid, signal.SIGCONT)
            await servers.stop()

    run(body())


def test_an_operators_word_reaches_every_process_and_ends_by_itself_and_its_state_is_on_the_board(settings: Settings):
    async def body() -> None:
        clock = SystemClock()
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, clock)
        reliability = Reliability(settings, "worker-1", clock, Metrics())
        breaker = reliability.dependency("shop").breaker
        await board.say("shop", Mode.FORCED_OPEN, seconds=60, by="ann", why="test")
        report = asyncio.create_task(ReliabilityReport(board, reliability).run())
        try:
            await until(lambda: breaker.state is State.FORCED_OPEN)
            async with asyncio.timeout(30):
                while not (shown := await board.read()):  # noqa: ASYNC110 - Redis is asked
                    await asyncio.sleep(0.01)
            assert [(each["process"], each["stale"]) for each in shown] == [("worker-1", False)]
            assert shown[0]["breakers"][0]["state"] == "forced_open"
            await board.say("shop", Mode.FORCED_OPEN, seconds=-1, by="ann", why="it is over")
            await until(lambda: breaker.state is State.CLOSED)
        finally:
            await ended(report)
        assert await board.read() == []
        await redis.close()

    run(body())


def test_an_operators_word_ends_by_itself_also_while_redis_is_away(settings: Settings):
    async def body() -> None:
        clock = ManualClock(datetime.now(UTC))
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, clock)
        nowhere = settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
        gone = RedisLog(nowhere, settings.prefix, client_name="test")
        reliability = Reliability(settings, "worker-1", clock, Metrics())
        breaker = reliability.dependency("adapter").breaker
        await board.say("adapter", Mode.FORCED_OPEN, seconds=60, by="ann", why="test")
        report = ReliabilityReport(board, reliability)
        await report.round()
        report._board = ReliabilityBoard(gone, settings.prefix, clock)
        clock.advance(59)
        await report.round()
        assert breaker.state is State.FORCED_OPEN
        clock.advance(2)
        await report.round()
        assert breaker.as_json()["state"] == "closed"
        await redis.close()
        await gone.close()

    run(body())


def test_a_word_holds_for_its_time_and_a_state_is_as_old_as_it_is_whatever_the_clocks_of_processes_say(
    settings: Settings,
):
    async def body() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        clocks = [ManualClock(datetime.now(UTC) + timedelta(hours=hours)) for hours in (-1, 0, 1)]
        slow, right, fast = (ReliabilityBoard(redis, settings.prefix, clock) for clock in clocks)
        for board in (slow, fast):
            await board.say("adapter", Mode.DISABLED, seconds=60, by="ann", why="test")
            for hearer, clock in zip((slow, right, fast), clocks, strict=True):
                left_s = (await hearer.words())["adapter"].until_s - clock.wall_s()
                assert 30 <= left_s <= 60
            await board.write("worker-1", {"at": 0.0})
            assert [(each["stale"], each["age_s"] <= 30) for each in await right.read()] == [(False, True)]
        await redis.close()

    run(body())


def test_what_is_no_text_in_redis_is_passed_over_and_stops_nobody(settings: Settings):
    async def body() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, SystemClock())
        for kind in ("states", "words"):
            await redis.call("HSET", f"{{{settings.prefix}:reliability}}:{kind}", "x", b"\xff\xfe")
        assert await board.as_json() == {"processes": [], "operators": {}}
        await redis.close()

    run(body())


def test_a_state_that_was_not_renewed_is_called_stale(settings: Settings):
    async def body() -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        board = ReliabilityBoard(redis, settings.prefix, SystemClock())
        now_s = SystemClock().wall_s()
        for process, age_s in (("gone", 60), ("long gone", 7200)):
            state = json.dumps({"process": process, "at": now_s - age_s})
            await redis.call("HSET", f"{{{settings.prefix}:reliability}}:states", process, state)
        assert [(each["process"], each["stale"], each["age_s"]) for each in await board.read()] == [
            ("gone", True, pytest.approx(60, abs=2))
        ]
        await redis.close()

    run(body())
