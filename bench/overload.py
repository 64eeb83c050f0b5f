"""`python -m bench overload`: a service asked for three times what it can do, behind nothing, a pool, and our gate.

The service has twenty places and takes 40 ms on average, exponentially, so 500 requests a second are all it can do.
What it began it ends, also when nobody waits for it any more. Callers give up after 500 ms. A tenth of them are orders
(critical). Goodput: answers in time, of the most that the service could give. First in virtual time, then in real time
on an event loop that everybody shares, as in a gateway. There, "capacity" is what the service did with twenty callers
in a closed loop just before: timers of a busy machine come late. In between, in virtual time, on a loop that gets less
processor than it needs: three times the load takes about 0.17 of one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from bench import report
from bench.contenders import virtual_time
from contracts.errors import Shed
from reliability.call import Priority
from reliability.gate import Gate
from reliability.load_metrics import LoadMetrics
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import GateSettings

PLACES, MEAN_S, DEADLINE_S = 20, 0.04, 0.5
CAPACITY_PER_S = PLACES / MEAN_S
MIX = {Priority.CRITICAL: 0.1, Priority.NORMAL: 0.3, Priority.LOW: 0.4, Priority.BACKGROUND: 0.2}
GUARDS = ("nothing", "pool of 40, queue", "headrace")
POOL = 2 * PLACES
CLOSED_S = 5.0
SHARES = (0.2, 0.15, 0.12, 0.1)

Line = dict[str, Any]
Guarded = Callable[[Priority, float], Awaitable[None]]


class LoopClock(SystemClock):
    """The running loop's time, which may be virtual."""

    def monotonic_s(self) -> float:
        """Seconds."""
        return asyncio.get_running_loop().time()


class Service:
    """First come, first served, by PLACES at once."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def serve(self) -> None:
        """Wait for a place and for the work; the work goes on when the caller leaves."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._begin()
        await asyncio.shield(future)

    def _begin(self) -> None:
        while self._waiting and self._busy < PLACES:
            self._busy += 1
            took_s = self._draw.expovariate(1 / MEAN_S)
            asyncio.get_running_loop().call_later(took_s, self._end, self._waiting.popleft())

    def _end(self, future: asyncio.Future[None]) -> None:
        self._busy -= 1
        if not future.done():
            future.set_result(None)
        self._begin()


class Run:
    """One guard under one load."""

    def __init__(self, guard: str, seed: int) -> None:
        self._draw = random.Random(seed)  # noqa: S311 - a load that can be repeated
        self._service = Service(self._draw)
        self._gate = Gate("bench", GateSettings(), LoopClock(), LoadMetrics(Metrics()))
        self._pool = asyncio.Semaphore(POOL)
        self._work: Guarded = {GUARDS[0]: self._plain, GUARDS[1]: self._pooled, GUARDS[2]: self._gated}[guard]
        self._offered: Counter[Priority] = Counter()
        self._good: Counter[Priority] = Counter()
        self._took_s: list[float] = []
        self._orders_s: list[float] = []

    async def capacity_per_s(self) -> float:
        """What the service does when it is never idle and nobody waits."""
        loop, done = asyncio.get_running_loop(), 0
        until_s = loop.time() + CLOSED_S

        async def caller() -> None:
            nonlocal done
            while loop.time() < until_s:
                await self._service.serve()
                done += 1

        await asyncio.gather(*(caller() for _ in range(PLACES)))
        return done / CLOSED_S

    async def measured(self, times: float, seconds: float) -> Line:
        """Offer `times` the capacity for so long."""
        capacity_per_s = await self.capacity_per_s()
        loop = asyncio.get_running_loop()
        began_s, due_s, tasks = loop.time(), loop.time(), set()
        while (due_s := due_s + self._draw.expovariate(times * CAPACITY_PER_S)) < began_s + seconds:
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            task = asyncio.create_task(self._call(self._draw.choices(list(MIX), list(MIX.values()))[0]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        took_s = loop.time() - began_s
        await asyncio.gather(*tasks)
        most = min(capacity_per_s * took_s, self._offered.total())
        line: Line = {"capacity/s": round(capacity_per_s), "goodput %": round(100 * self._good.total() / most, 1)}
        for priority in Priority:
            line[f"{priority.name.lower()} %"] = round(100 * self._good[priority] / self._offered[priority], 1)
        return line | {"p95 ms": _p95_ms(self._took_s), "p95 ms of orders": _p95_ms(self._orders_s)}

    async def _call(self, priority: Priority) -> None:
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        self._offered[priority] += 1
        with suppress(Shed, TimeoutError):
            async with asyncio.timeout_at(began_s + DEADLINE_S):
                await self._work(priority, began_s + DEADLINE_S)
            self._good[priority] += 1
            self._took_s.append(now_s() - began_s)
            if priority is Priority.CRITICAL:
                self._orders_s.append(now_s() - began_s)

    async def _plain(self, _priority: Priority, _deadline_s: float) -> None:
        await self._service.serve()

    async def _pooled(self, _priority: Priority, _deadline_s: float) -> None:
        async with self._pool:
            await self._service.serve()

    async def _gated(self, priority: Priority, deadline_s: float) -> None:
        async with self._gate.admitted(priority, deadline_s):
            await self._service.serve()


async def measured(guard: str, times: float, seconds: float, seed: int = 1) -> Line:
    """One guard under so many times the capacity."""
    return {"name": guard, "load": f"{times:g}x", **await Run(guard, seed).measured(times, seconds)}


def main() -> int:
    """0."""
    parser = argparse.ArgumentParser(prog="bench overload", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run; 30")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    cases = [(guard, times) for times in (0.7, 3.0) for guard in GUARDS]
    virtual = [virtual_time.run(measured(*case, options.seconds)) for case in cases]
    report.print_lines("virtual time", virtual, [])
    short = [
        {**virtual_time.run(measured(guard, 3.0, options.seconds), share), "load": f"3x, {share:g} of a processor"}
        for share in SHARES
        for guard in GUARDS[1:]
    ]
    report.print_lines("virtual time, too little processor", short, [])
    real = [asyncio.run(measured(*case, options.seconds)) for case in cases]
    report.print_lines("real time", real, [])
    if options.json:
        print(
            report.as_json(
                [{"time": "virtual", **line} for line in virtual + short] + [{"time": "real", **line} for line in real]
            )
        )
    return 0


def _p95_ms(seconds: list[float]) -> float | None:
    return round(1000 * sorted(seconds)[int(0.95 * len(seconds))], 1) if seconds else None


if __name__ == "__main__":
    raise SystemExit(main())
