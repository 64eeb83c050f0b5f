"""Rate limits on a real Redis: one count for all, and what happens when it stops, forgets or is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from contracts.errors import RateLimited
from headrace import embedded
from reliability.limiter import Rate, Want
from reliability.load_metrics import LoadMetrics
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import LimitSettings, Settings
from streams.redis_log import RedisLog
from streams.shared_counts import MOST_CHECKS, key_of
from streams.shared_limiter import SharedLimiter
from tests.support.aio import run
from tests.support.proxy import Proxy, Toxics

CLOCK = SystemClock()
# Seconds for one request, so that nothing comes back during a test.
SLOW = 0.01


def want(scope: str, *name: str, burst: int, per_s: float = SLOW) -> Want:
    return Want(scope, name, Rate(per_s, burst))


@asynccontextmanager
async def limiter(settings: Settings, *, process: str = "one", **limits: object) -> AsyncIterator[SharedLimiter]:
    redis = RedisLog(settings.redis, settings.prefix, client_name="test")
    chosen = LimitSettings.model_validate({"redis_timeout_ms": 1000.0, "retry_redis_s": 0.05, **limits})
    made = SharedLimiter(redis, chosen, settings.prefix, CLOCK, LoadMetrics(Metrics()), process)
    try:
        yield made
    finally:
        await made.stop()
        await redis.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


def test_several_processes_share_one_burst_and_checks_at_the_same_moment_are_counted_one_by_one(settings: Settings):
    async def body() -> None:
        async with limiter(settings, process="a") as one, limiter(settings, process="b") as two:
            wants = [want("tenant", "acme", burst=150)]
            verdicts = await asyncio.gather(*(each.take(wants) for _ in range(250) for each in (one, two)))
            assert sum(verdict.allowed for verdict in verdicts) == 150
            assert not any(verdict.local for verdict in verdicts)
            refused = next(verdict for verdict in verdicts if not verdict.allowed)
            assert (refused.scope, refused.name) == ("tenant", "acme")
            assert 90 <= refused.retry_after_s <= 100

            async def both_know() -> bool:
                # Each tells of itself with its own checks, so the first to finish may not have heard of the other.
                await asyncio.gather(one.take(wants), two.take(wants))
                return (one.parts, two.parts) == (2, 2)

            await until(both_know)

    run(body())


def test_all_keys_are_charged_or_none_is_and_the_one_that_refuses_is_named(settings: Settings):
    async def body() -> None:
        async with limiter(settings) as made:
            tenant, route = want("tenant", "acme", burst=10), want("route", "tools", burst=3)
            for _ in range(3):
                assert (await made.take([tenant, route])).allowed
            for _ in range(5):
                assert (await made.take([tenant, route])).scope == "route"
            left = [await made.take([tenant]) for _ in range(8)]
            assert [verdict.allowed for verdict in left] == [True] * 7 + [False]
            with pytest.raises(RateLimited, match="tenant acme"):
                await made.require([tenant])

    run(body())


def test_a_cost_counts_as_so_many_and_comes_back_at_the_rate(settings: Settings):
    async def body() -> None:
        async with limiter(settings) as made:
            wants = [want("tenant", "acme", burst=10, per_s=100.0)]
            assert (await made.take(wants, 10)).allowed
            refused = await made.take(wants, 5)
            assert 0 < refused.retry_after_s <= 0.05
            await asyncio.sleep(refused.retry_after_s)
            assert (await made.take(wants, 5)).allowed
            for cost in (0, -3, 11):
                with pytest.raises(ValueError, match=f"got {cost}"):
                    await made.take(wants, cost)

    run(body())


def test_names_that_read_alike_do_not_share_a_count(settings: Settings):
    async def body() -> None:
        async with limiter(settings) as made:
            for name in (("a/b", "c"), ("a", "b/c"), ("a:1:b", "c"), ("a", "1:b:1:c")):
                assert (await made.take([want("route", *name, burst=1)])).allowed
                assert not (await made.take([want("route", *name, burst=1)])).allowed

    run(body())


def test_a_limit_that_was_lowered_or_a_clock_that_went_back_shuts_nobody_out(settings: Settings):
    async def body() -> None:
        async with limiter(settings) as made:
            wide = want("tenant", "acme", burst=1_000_000, per_s=1000.0)
            assert (await made.take([wide], 1_000_000)).allowed  # a tat of 1,000 s from now
            narrow = want("tenant", "acme", burst=2, per_s=1000.0)
            assert (await made.take([narrow])).retry_after_s <= 0.001
            await asyncio.sleep(0.002)
            assert (await made.take([narrow])).allowed

    run(body())


def test_keys_go_when_their_burst_is_whole_again(settings: Settings):
    async def body() -> None:
        async with limiter(settings) as made:
            redis = RedisLog(settings.redis, settings.prefix, client_name="test")
            quick = want("tenant", "acme", burst=5, per_s=1000.0)
            await made.take([quick])
            key = key_of(f"{{{settings.prefix}:limit}}", quick)
            await until(lambda: _gone(redis, key))
            await redis.close()

    run(body())


async def _gone(redis: RedisLog, key: str) -> bool:
    return not await redis.call("EXISTS", key)


def test_a_redis_that_forgot_its_scripts_is_given_them_again(settings: Settings):
    async def body() -> None:
        async with limiter(settings) as made:
            redis = RedisLog(settings.redis, settings.prefix, client_name="test")
            assert (await made.take([want("tenant", "acme", burst=9)])).allowed
            await redis.call("SCRIPT", "FLUSH")
            assert not (await made.take([want("tenant", "acme", burst=9)])).local
            await redis.close()

    run(body())


@asynccontextmanager
async def own_redis(settings: Settings, folder: Path) -> AsyncIterator[tuple[Settings, int]]:
    """A Redis for this test alone, and its pid."""
    servers = await embedded.start(folder, {"redis": "embedded"})
    try:
        url = settings.redis.model_copy(update={"url": servers.url("redis")})
        yield settings.model_copy(update={"redis": url}), servers.pids["redis"]
    finally:
        os.kill(servers.pids["redis"], signal.SIGCONT)
        await servers.stop()


def test_a_frozen_redis_holds_nobody_up_and_the_limit_divided_goes_on(settings: Settings, tmp_path: Path):
    async def body() -> None:
        async with (
            own_redis(settings, tmp_path) as (own, pid),
            limiter(own, redis_timeout_ms=20.0, processes=4, retry_redis_s=0.3) as made,
        ):
            wants = [want("tenant", "acme", burst=400)]
            await until(lambda: _shared(made, want("tenant", "warm", burst=100_000)))
            os.kill(pid, signal.SIGSTOP)
            # Far more at once than a pool has connections: none may fail, and none may wait for a timeout of seconds.
            verdicts = await asyncio.wait_for(asyncio.gather(*(made.take(wants) for _ in range(500))), 1.0)
            assert sum(verdict.allowed for verdict in verdicts) == 100  # 400 / 4
            assert all(verdict.local for verdict in verdicts)
            began_s = CLOCK.monotonic_s()
            for _ in range(200):
                await made.take(wants)
            assert CLOCK.monotonic_s() - began_s < 1.0  # while it stands still, nobody waits 20 ms each
            os.kill(pid, signal.SIGCONT)
            await until(lambda: _shared(made, want("tenant", "bolt", burst=100_000)))

    run(body())


async def _shared(made: SharedLimiter, which: Want) -> bool:
    return not (await made.take([which])).local


def test_an_answer_that_came_while_this_process_stood_still_counts(settings: Settings, tmp_path: Path):
    async def body() -> None:
        async with own_redis(settings, tmp_path) as (own, pid), limiter(own, redis_timeout_ms=100.0) as made:
            await until(lambda: _shared(made, want("tenant", "warm", burst=100_000)))
            os.kill(pid, signal.SIGSTOP)
            check = asyncio.create_task(made.take([want("tenant", "acme", burst=5)]))
            await asyncio.sleep(0.02)  # it is sent
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.5)  # noqa: ASYNC251 - the loop gets no processor, and Redis does
            assert not (await check).local

    run(body())


def test_a_crowd_that_redis_does_not_get_through_in_time_is_decided_here_and_redis_is_not_called_away(
    settings: Settings,
):
    async def body() -> None:
        port = urlsplit(settings.redis.url).port
        assert port is not None
        with Proxy(port) as proxy:
            url = settings.redis.model_copy(update={"url": f"redis://127.0.0.1:{proxy.port}/0"})
            async with limiter(settings.model_copy(update={"redis": url}), redis_timeout_ms=1000.0) as made:
                wants = [want("tenant", "acme", burst=100_000)]
                await until(lambda: _shared(made, wants[0]))
                proxy.set(Toxics(delay_s=0.3))
                verdicts = await asyncio.gather(*(made.take(wants) for _ in range(2 * MOST_CHECKS)))
                assert [verdict.local for verdict in verdicts] == [False] * MOST_CHECKS + [True] * MOST_CHECKS
                assert made.state()["counted"] == "redis"

    run(body())


def test_a_redis_that_takes_no_write_is_away_until_it_does_though_it_answers_a_ping(settings: Settings, tmp_path: Path):
    async def body() -> None:
        async with own_redis(settings, tmp_path) as (own, _), limiter(own) as made:
            wants = [want("tenant", "acme", burst=100_000)]
            await until(lambda: _shared(made, wants[0]))
            redis = RedisLog(own.redis, own.prefix, client_name="test")
            await redis.call("CONFIG", "SET", "maxmemory", "1")
            assert (await made.take(wants)).local
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert made.state()["counted"] == "local"
            await redis.call("CONFIG", "SET", "maxmemory", "0")
            await until(lambda: _shared(made, wants[0]))
            await redis.close()

    run(body())


def test_without_a_redis_limits_hold_in_this_process_and_stop_leaves_nothing_behind(settings: Settings):
    async def body() -> None:
        nowhere = settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
        async with limiter(settings.model_copy(update={"redis": nowhere})) as made:
            wants = [want("tenant", "acme", burst=5)]
            verdicts = [await made.take(wants) for _ in range(8)]
            assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False] * 3
            assert made.state()["counted"] == "local"

    run(body())


def test_a_caller_that_is_cancelled_disturbs_nobody_else(settings: Settings):
    async def body() -> None:
        async with limiter(settings) as made:
            wants = [want("tenant", "acme", burst=1000)]
            tasks = [asyncio.create_task(made.take(wants)) for _ in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(getattr(result, "allowed", False) for result in results[1::2])

    run(body())


def test_limits_that_are_not_shared_never_ask_redis(settings: Settings):
    async def body() -> None:
        async with limiter(settings, shared=False, processes=9) as made:
            wants = [want("tenant", "acme", burst=3)]
            assert [(await made.take(wants)).allowed for _ in range(4)] == [True, True, True, False]
            assert made.state() == {"counted": "local", "processes": 1, "local_keys": 1}

    run(body())
