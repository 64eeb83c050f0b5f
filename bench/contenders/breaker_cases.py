"""What a breaker does in eight situations, asked the same way of each. Standard library alone.

A contender is a `make(open_s)` that answers a guard; `await guard(work)` calls `work` or raises Refused. Its settings
are its own defaults, save for the wait before probing. What a call costs is processor time: others may be running.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

Work = Callable[[], Awaitable[object]]
Guard = Callable[[Work], Awaitable[object]]
Make = Callable[[float], Awaitable[Guard]]

CALLS = 20_000
REPEATS = 5
CALLERS = 1000
FEW = 100
NEVER_S = 3600.0
SOON_S = 0.05
SLOW_S = 0.03
FROZEN_S = 8.0
SHARED_OPEN_S = 2.0
# Of a shared run, in seconds from its begin: when calls fail, when callers come, and when all is over.
FAIL_AT_S, ASK_FROM_S, ASK_UNTIL_S, END_S = 1.0, 2.0, 6.0, 6.5
TURN_S = 0.02
SHARED_CALLERS = 250


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The breaker did not let the call through."""


@dataclass
class Answers:
    """What one process found; None: it has nothing of the kind."""

    us_per_call: float | None = None
    half_failing_opens_at: int | None = None
    all_slow_opens_at: int | None = None
    half_open_passed: int | None = None
    cancelled_open_it: bool | None = None
    late_success_closes_it: bool | None = None

    def as_json(self) -> dict[str, object]:
        """The printed form."""
        return asdict(self)


async def nothing() -> None:
    """A call that is answered at once."""


async def failing() -> None:
    """A call that fails."""
    raise ConnectionResetError


async def let_through(guard: Guard, work: Work) -> bool:
    """Whether the breaker let the call through; what the call itself raised is of no interest."""
    try:
        await guard(work)
    except Refused:
        return False
    except ConnectionResetError:
        pass
    return True


async def local(make: Make) -> Answers:
    """All situations of one process."""
    answers = Answers()
    answers.us_per_call = await us_per_call(await make(NEVER_S))
    guard = await make(NEVER_S)
    answers.half_failing_opens_at = await _opens_at(guard, lambda number: failing if number % 2 else nothing)
    guard = await make(NEVER_S)
    answers.all_slow_opens_at = await _slow_opens_at(guard)
    answers.half_open_passed = await _half_open_passed(await make(SOON_S))
    answers.cancelled_open_it = await _cancelled_open(await make(NEVER_S))
    answers.late_success_closes_it = await _late_success_closes(await make(NEVER_S))
    return answers


async def us_per_call(guard: Guard) -> float:
    """What the guard adds to a call that is answered at once: best of several, less the call alone."""
    alone, guarded = [], []
    for _ in range(REPEATS):
        began_s = time.process_time()
        for _ in range(CALLS):
            await nothing()
        middle_s = time.process_time()
        for _ in range(CALLS):
            await guard(nothing)
        alone.append(middle_s - began_s)
        guarded.append(time.process_time() - middle_s)
    return round(1e6 * (min(guarded) - min(alone)) / CALLS, 2)


async def _opens_at(guard: Guard, work: Callable[[int], Work]) -> int | None:
    for number in range(1, CALLERS + 1):
        if not await let_through(guard, work(number)):
            return number - 1
    return None


async def _slow_opens_at(guard: Guard) -> int | None:
    """Ten at a time, all slow (those contenders that can be told what is slow are told 20 ms)."""
    for number in range(0, FEW, 10):
        through = await asyncio.gather(*(let_through(guard, lambda: asyncio.sleep(SLOW_S)) for _ in range(10)))
        if not all(through):
            return number
    return None


async def _open(guard: Guard) -> None:
    for _ in range(CALLERS):
        if not await let_through(guard, failing):
            return


async def _half_open_passed(guard: Guard) -> int:
    """How many of a thousand callers at once reach a dependency that does not answer yet."""
    await _open(guard)
    await asyncio.sleep(2 * SOON_S)
    return await _reached(guard, CALLERS)


async def _reached(guard: Guard, callers: int) -> int:
    reached, answer = 0, asyncio.Event()

    async def hanging() -> None:
        nonlocal reached
        reached += 1
        await answer.wait()

    calls = [asyncio.create_task(let_through(guard, hanging)) for _ in range(callers)]
    await asyncio.sleep(SOON_S)
    answer.set()
    await asyncio.gather(*calls)
    return reached


async def _cancelled_open(guard: Guard) -> bool:
    """Whether callers that give up open it, though the dependency has done nothing wrong."""
    for _ in range(FEW):
        call = asyncio.create_task(let_through(guard, asyncio.Event().wait))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    return not await let_through(guard, nothing)


async def _late_success_closes(guard: Guard) -> bool | None:
    """Whether a call that began before it opened, and is answered after, closes it."""
    answer = asyncio.Event()
    early = asyncio.create_task(let_through(guard, answer.wait))
    await asyncio.sleep(0)
    await _open(guard)
    if await let_through(guard, nothing):
        early.cancel()
        return None
    answer.set()
    await early
    return await let_through(guard, nothing)


async def shared(guard: Guard) -> dict[str, object]:
    """One of several processes: all fail, then callers come for some seconds, and their calls hang.

    It says when it is ready, and is told at which time all begin.
    """
    print("ready", flush=True)
    begin_at_s = float(await asyncio.to_thread(sys.stdin.readline))
    await _until(begin_at_s + FAIL_AT_S)
    await _open(guard)
    await _until(begin_at_s + ASK_FROM_S)
    opened = not await let_through(guard, nothing)
    reached, over = 0, asyncio.Event()
    calls: list[asyncio.Task[bool]] = []

    async def hanging() -> None:
        nonlocal reached
        reached += 1
        await over.wait()

    while len(calls) < SHARED_CALLERS:
        part = (time.time() - begin_at_s - ASK_FROM_S) / (ASK_UNTIL_S - ASK_FROM_S)
        new = round(SHARED_CALLERS * min(1.0, part)) - len(calls)
        calls += [asyncio.create_task(let_through(guard, hanging)) for _ in range(new)]
        await asyncio.sleep(TURN_S)
    await _until(begin_at_s + END_S)
    over.set()
    # A contender's Redis client may not survive that all calls end at once.
    await asyncio.gather(*calls, return_exceptions=True)
    return {"opened": opened, "callers": len(calls), "reached": reached}


async def frozen(guard: Guard, redis_pid: int) -> dict[str, object]:
    """The cost of a call with Redis well, and the longest that one takes once Redis is stopped."""
    cost_us = await us_per_call_slowly(guard)
    os.kill(redis_pid, signal.SIGSTOP)
    try:
        worst_s = 0.0
        until_s = time.perf_counter() + FROZEN_S
        while time.perf_counter() < until_s:
            began_s = time.perf_counter()
            with suppress(Exception):  # whatever its Redis client raises; the time is what counts
                await asyncio.wait_for(guard(nothing), until_s - began_s + 1)
            worst_s = max(worst_s, time.perf_counter() - began_s)
            await asyncio.sleep(TURN_S)
    finally:
        os.kill(redis_pid, signal.SIGCONT)
    return {"shared_us_per_call": cost_us, "frozen_worst_ms": round(1000 * worst_s, 1)}


async def us_per_call_slowly(guard: Guard) -> float:
    """As us_per_call, for calls that may ask a server: a second of them, the median."""
    taken, until_s = [], time.perf_counter() + 1
    while time.perf_counter() < until_s:
        began_s = time.perf_counter()
        await guard(nothing)
        taken.append(time.perf_counter() - began_s)
    return round(1e6 * sorted(taken)[len(taken) // 2], 1)


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.time()))
