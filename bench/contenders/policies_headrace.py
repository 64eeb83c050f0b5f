"""Headrace's own breaker, retry and stack: `policies_headrace.py local | shared URL NAME | frozen URL NAME PID`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import breaker_cases
import retry_cases
from breaker_cases import Guard, Refused, Work

from contracts.call_errors import BreakerOpen
from reliability.breaker import Breaker
from reliability.dependency import Dependency
from reliability.registry import Reliability
from runtime.clock import SystemClock
from runtime.logs import configure
from runtime.metrics import Metrics
from runtime.settings import LogSettings, Settings
from streams.redis_log import RedisLog
from streams.reliability_link import link

# What "slow" means in breaker_cases.
SLOW_S = 0.02


class LoopClock(SystemClock):
    """The loop's time, which is virtual in retry_cases."""

    def monotonic_s(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()


def guarded(breaker: Breaker) -> Guard:
    """The breaker alone, as the cases want it."""

    async def guard(work: Work) -> object:
        try:
            return await breaker.call(work)
        except BreakerOpen as refusal:
            raise Refused from refusal

    return guard


def dependency(settings: Settings, clock: SystemClock) -> tuple[Reliability, Dependency]:
    """A process with one dependency."""
    reliability = Reliability(settings, f"bench:{os.getpid()}", clock, Metrics())
    return reliability, reliability.dependency("shop")


async def local_guard(open_s: float) -> Guard:
    """A breaker with default settings, save for times."""
    rules = {"open_s": open_s, "open_max_s": max(60.0, open_s), "slow_s": SLOW_S}
    _, made = dependency(Settings.model_validate({"breaker": rules}), SystemClock())
    return guarded(made.breaker)


def stack(**groups: object) -> Callable[[], Callable[[Work], Awaitable[object]]]:
    """A stack made on the loop that will use it."""

    def make() -> Callable[[Work], Awaitable[object]]:
        made = dependency(Settings.model_validate(groups), LoopClock())[1].stack

        async def call(work: Work) -> object:
            return await made.call(lambda _try: work(), idempotent=True)

        return call

    return make


async def _cost(make: Callable[[], Callable[[Work], Awaitable[object]]]) -> float:
    cost_us: float = await retry_cases.us_per_call(make())
    return cost_us


def local() -> dict[str, Any]:
    """All cases of one process."""
    off = {"mode": "disabled"}
    stacks = {
        "headrace-retry": stack(breaker=off, bulkhead={"calls": 0}),
        "headrace-stack": stack(),
        "headrace-stack, no scouts": stack(breaker={"scout_s": 0}),
    }
    return {
        "breaker": asyncio.run(breaker_cases.local(local_guard)).as_json(),
        "retries": {
            name: {"us_per_call": asyncio.run(_cost(make)), **retry_cases.outage(make)} for name, make in stacks.items()
        },
    }


async def with_redis(url: str, name: str, case: Callable[[Guard], Awaitable[dict[str, object]]]) -> dict[str, object]:
    """A case with a breaker that is shared through Redis."""
    open_s = breaker_cases.SHARED_OPEN_S
    rules = {"shared": True, "open_s": open_s, "half_open_max_s": 10.0}
    settings = Settings.model_validate({"prefix": name, "redis": {"url": url}, "breaker": rules})
    clock = SystemClock()
    reliability, made = dependency(settings, clock)
    redis = RedisLog(settings.redis, settings.prefix, client_name="bench")
    linked = asyncio.create_task(link(settings, redis, reliability, clock))
    try:
        return await case(guarded(made.breaker))
    finally:
        linked.cancel()
        await asyncio.gather(linked, return_exceptions=True)
        await redis.close()


def main() -> None:
    """Print one JSON object."""
    configure(LogSettings(level="error"), process="bench")
    what, *rest = sys.argv[1:]
    if what == "local":
        print(json.dumps(local()))
        return
    if what == "shared":
        answer = asyncio.run(with_redis(rest[0], rest[1], breaker_cases.shared))
    else:
        answer = asyncio.run(with_redis(rest[0], rest[1], lambda guard: breaker_cases.frozen(guard, int(rest[2]))))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
