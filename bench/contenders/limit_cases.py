"""What every rate limiter is put through; it imports nothing of ours, so that peers run in their own environment.

The limit asked for is always 100 in one second.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

MOST, WINDOW_S = 100, 1.0
LOCAL_CHECKS, CHECKS, AT_ONCE, FROZEN_CHECKS = 1_000, 1_000, 500, 200
HAMMER_S, FROZEN_S = 2.5, 3.0
OPEN = 1_000_000


class Limiter(Protocol):
    """A limiter under test; `limit` in one second for a key of several texts."""

    one_text: bool
    """It takes a key of one text: whoever calls it has to put several together."""

    async def check(self, key: tuple[str, ...], limit: int = MOST, cost: int = 1) -> bool:
        """Whether the request passes."""
        ...


async def local(limiter: Limiter) -> dict[str, Any]:
    """Microseconds of a check in memory: the best of twenty rounds, since other programs run beside this one."""
    rounds = []
    for _ in range(20):
        began_s = time.perf_counter()
        for _ in range(LOCAL_CHECKS):
            await limiter.check(("local",), OPEN)
        rounds.append(time.perf_counter() - began_s)
    return {"memory_us": round(1e6 * min(rounds) / LOCAL_CHECKS, 1)}


async def on_redis(limiter: Limiter, flush: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    """Speed, a crowd, the worst second, and three traps."""
    await limiter.check(("warm",), OPEN)
    times = []
    for _ in range(CHECKS):
        began_s = time.perf_counter()
        await limiter.check(("speed",), OPEN)
        times.append(1000 * (time.perf_counter() - began_s))
    cuts = statistics.quantiles(times, n=100)
    crowd = await _crowd(limiter)
    return {
        "redis_p50_ms": round(cuts[49], 2),
        "redis_p99_ms": round(cuts[98], 2),
        **crowd,
        "worst_second": await _hammer(limiter),
        "limit_after_negative_cost": await _negative(limiter),
        "keys_collide": await _collide(limiter),
        "after_script_flush": await _flushed(limiter, flush),
    }


async def _crowd(limiter: Limiter) -> dict[str, Any]:
    began_s = time.perf_counter()
    results = await asyncio.gather(*(limiter.check(("crowd",), OPEN) for _ in range(AT_ONCE)), return_exceptions=True)
    failed = sum(isinstance(result, BaseException) for result in results)
    return {"at_once_ms": round(1000 * (time.perf_counter() - began_s)), "at_once_failed": failed}


async def _hammer(limiter: Limiter) -> int:
    """The most that passed in any second when somebody asks all the time."""
    passed: list[float] = []
    began_s = time.monotonic()
    while (now_s := time.monotonic()) < began_s + HAMMER_S:
        if await limiter.check(("hammer",)):
            passed.append(now_s)
        await asyncio.sleep(0)
    return max(sum(at <= other < at + WINDOW_S for other in passed) for at in passed)


async def _negative(limiter: Limiter) -> str:
    """What is left of a limit of 10 after a cost of -50."""
    try:
        await limiter.check(("negative",), 10, -50)
    except Exception:  # noqa: BLE001 - refusing it is right, in whatever way
        return "refused"
    passed = 0
    for _ in range(100):
        passed += await limiter.check(("negative",), 10)
    return str(passed)


async def _collide(limiter: Limiter) -> str:
    if limiter.one_text:
        return "takes one text"
    for _ in range(50):
        await limiter.check(("a/b", "c"), 5)
    return "no" if await limiter.check(("a", "b/c"), 5) else "yes"


async def _flushed(limiter: Limiter, flush: Callable[[], Awaitable[object]]) -> str:
    await flush()
    try:
        await limiter.check(("flushed",), OPEN)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return type(error).__name__
    return "goes on"


async def frozen(limiter: Limiter, pid: int) -> dict[str, Any]:
    """How long checks take while Redis is stopped, many at once and one after the other; and what comes of them."""
    await limiter.check(("warm",), OPEN)
    timer_ms = max([await _timer_ms() for _ in range(50)])
    os.kill(pid, signal.SIGSTOP)
    try:
        crowd = await asyncio.gather(*(_timed(limiter) for _ in range(FROZEN_CHECKS)))
        later = [await _timed(limiter) for _ in range(10 if crowd[0][1] == "answered" else 1)]
    finally:
        os.kill(pid, signal.SIGCONT)
    answers = {answer for _, answer in [*crowd, *later]}
    return {
        "timer_of_20_ms": round(timer_ms, 1),
        "frozen_p50_ms": round(statistics.median(ms for ms, _ in crowd)),
        "frozen_first_ms": round(max(ms for ms, _ in crowd)),
        "frozen_later_ms": round(max(ms for ms, _ in later), 1),
        "frozen_checks": ", ".join(sorted(answers)),
    }


async def _timer_ms() -> float:
    """How long a timer of 20 ms takes on this machine, now: nobody can give up after 20 ms sooner than that."""
    began_s = time.perf_counter()
    await asyncio.sleep(0.02)
    return 1000 * (time.perf_counter() - began_s)


async def _timed(limiter: Limiter) -> tuple[float, str]:
    began_s = time.perf_counter()
    try:
        await asyncio.wait_for(limiter.check(("frozen",)), FROZEN_S)
        answer = "answered"
    except TimeoutError:
        answer = f"none in {FROZEN_S:g} s" if time.perf_counter() - began_s >= FROZEN_S else "failed"
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        answer = type(error).__name__
    return 1000 * (time.perf_counter() - began_s), answer


def main(make: Callable[[str, str], Any]) -> None:
    """Print the answers as JSON: `make(name or "", url)` gives (in memory, on Redis, flush, close)."""
    name, url, pid = sys.argv[1], sys.argv[2], int(sys.argv[3])

    async def run() -> dict[str, Any]:
        memory, redis, flush, close = await make(name, url)
        found = await local(memory) | await on_redis(redis, flush) | await frozen(redis, pid)
        await close()
        return found

    print(json.dumps(asyncio.run(run())))
