"""What retries do to a dependency that is down for 20 s, in virtual time. Standard library alone.

100 callers a second for 60 s; a call takes 20 ms; from second 15 to 35 each fails. A contender is `await call(work)`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import virtual_time

Work = Callable[[], Awaitable[object]]
Call = Callable[[Work], Awaitable[object]]

CALLERS = 6000
PER_S = 100
DOWN_S = (15.0, 35.0)
CALL_S = 0.02
CALLS, REPEATS = 5000, 5
# Back to normal: a second in which nearly all callers were served.
NORMAL_RATIO = 0.99


def outage(make: Callable[[], Call]) -> dict[str, object]:
    """Attempts for each caller of the outage, callers served, and the time from its end until nearly all are."""
    attempts, served = [0], [[0, 0] for _ in range(CALLERS // PER_S)]

    async def work() -> None:
        now_s = asyncio.get_running_loop().time()
        down = DOWN_S[0] <= now_s < DOWN_S[1]
        attempts[0] += down
        await asyncio.sleep(CALL_S)
        if down:
            raise ConnectionResetError

    async def caller(call: Call, second: int) -> None:
        try:
            await call(work)
            served[second][0] += 1
        except Exception:  # noqa: BLE001 - not served, for whatever reason
            served[second][1] += 1

    async def main() -> None:
        call = make()
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(caller(call, number // PER_S))
                await asyncio.sleep(1 / PER_S)

    virtual_time.run(main())
    offered = (DOWN_S[1] - DOWN_S[0]) * PER_S
    seconds = range(int(DOWN_S[1]), len(served))
    normal = next((second for second in seconds if served[second][0] >= NORMAL_RATIO * PER_S), None)
    return {
        "attempts_per_caller": round(attempts[0] / offered, 3),
        "served_percent": round(100 * sum(good for good, _ in served) / CALLERS, 1),
        "normal_after_s": None if normal is None else normal - int(DOWN_S[1]),
    }


async def us_per_call(call: Call) -> float:
    """What it adds to a call that is answered at once, in processor time: best of several."""

    async def nothing() -> None:
        pass

    best_s = float("inf")
    for _ in range(REPEATS):
        began_s = time.process_time()
        for _ in range(CALLS):
            await call(nothing)
        best_s = min(best_s, time.process_time() - began_s)
    return round(1e6 * best_s / CALLS, 2)
