"""`bench rebalance`: workers come and go under load; how long a partition's rows stand still each time.

A partition's pause is its longest time without a new row on the changelog. Under this load each partition gets some
hundred events a second, and without a rebalance the gaps are tens of milliseconds.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from bench import load
from bench.broker import Broker
from bench.child import Child, started
from bench.cores import Cores
from bench.engine import say
from bench.group import GroupView
from bench.headrace_worker import COMMAND, Worker, topic_of
from bench.latency import SETTLE_S, Line
from bench.live import Arrival, Feed, Tail, longest_gaps
from bench.recount import Verdict, check
from bench.run import LOG_GAMMA

PARTITIONS = 12
WORKERS = (1, 2, 4, 1)
GROUP = "bench-rebalance"
READY_S = 90.0
# Between two changes; also what a pause must be over in to count as settled.
CALM_S = 6.0
CAUGHT_UP_S = 60.0
POLL_S = 0.1


@dataclass(frozen=True)
class Step:
    """A change of the number of workers."""

    before: int
    after: int
    from_s: float
    to_s: float


async def rebalance(broker: Broker, store: str, rate: float, cores: Cores) -> list[Line]:
    """One line for each change of the number of workers, and one for the time before the first."""
    topic = topic_of(GROUP)
    await load.create_topic(broker.bootstrap, topic, PARTITIONS)
    worker = Worker(broker.bootstrap, topic, GROUP, store, broker.embedded, PARTITIONS)
    feed, tail = Feed(broker.bootstrap, topic, rate), Tail(broker.bootstrap, worker.changelog, PARTITIONS)
    stop = asyncio.Event()
    with ExitStack() as children:
        crew = Crew(worker, broker, cores, children)
        await crew.grow_to(WORKERS[0])
        await tail.start()
        feeding = asyncio.create_task(feed.send_until(stop))
        await asyncio.sleep(CALM_S)
        steps = [Step(WORKERS[0], WORKERS[0], time.monotonic() - CALM_S / 2, time.monotonic())]
        for before, after in pairwise(WORKERS):
            steps.append(await _change(crew, tail, before, after))
            say(f"rebalance: {before} -> {after} workers in {steps[-1].to_s - steps[-1].from_s:.1f} s")
        stop.set()
        await feeding
        await _caught_up(worker, len(feed.sent))
        await tail.stop()
        await crew.shrink_to(0)
    verdict = check(feed.right(), await worker.rows(LOG_GAMMA))
    say(f"rebalance: {verdict.text}")
    return [_line(step, tail.arrivals, verdict) for step in steps]


class Crew:
    """The workers of the group."""

    def __init__(self, worker: Worker, broker: Broker, cores: Cores, children: ExitStack) -> None:
        self._worker = worker
        self._broker = broker
        self._cores = cores
        self._children = children
        self._running: list[Child] = []
        self._started = 0

    async def grow_to(self, count: int) -> None:
        """Start workers at once, and wait until all are ready."""
        environments = []
        for _new in range(count - len(self._running)):
            self._started += 1
            folder = self._broker.folder / f"worker-{self._started}"
            environments.append(self._worker.environment(folder / "data"))
            command = self._cores.command(COMMAND, workers=count)
            self._running.append(self._children.enter_context(started(command, environments[-1], folder)))
        async with asyncio.timeout(READY_S):
            for child, environment in zip(self._running[-len(environments) :], environments, strict=True):
                await child.ready(environment)

    async def shrink_to(self, count: int) -> None:
        """Stop the newest workers at once, gently, and wait until they are gone."""
        going, self._running = self._running[count:], self._running[:count]
        await asyncio.gather(*(child.end(signal.SIGTERM) for child in going))

    async def stable(self) -> None:
        """Wait until the broker says that all members have their partitions."""
        async with asyncio.timeout(READY_S), GroupView(self._broker.bootstrap, GROUP) as view:
            await view.until_stable()


async def _change(crew: Crew, tail: Tail, before: int, after: int) -> Step:
    from_s = time.monotonic()
    await (crew.grow_to(after) if after > before else crew.shrink_to(after))
    await crew.stable()
    stable_s = time.monotonic()
    async with asyncio.timeout(READY_S):
        while len({arrival.partition for arrival in tail.arrivals if arrival.at_s > stable_s}) < PARTITIONS:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
    to_s = time.monotonic()
    await asyncio.sleep(CALM_S)
    return Step(before, after, from_s, to_s)


async def _caught_up(worker: Worker, events: int) -> None:
    async with asyncio.timeout(CAUGHT_UP_S), GroupView(worker.bootstrap, worker.group) as view:
        while sum((await view.committed(worker.topic, PARTITIONS)).values()) < events:  # noqa: ASYNC110 - the same
            await asyncio.sleep(POLL_S)
    await asyncio.sleep(SETTLE_S)


def _line(step: Step, arrivals: Sequence[Arrival], verdict: Verdict) -> Line:
    gaps = longest_gaps(arrivals, PARTITIONS, step.from_s, step.to_s)
    name = f"{step.before} -> {step.after} workers" if step.before != step.after else "no rebalance"
    return {
        "name": name,
        "longest_pause_s": round(max(gaps), 2),
        "median_pause_s": round(statistics.median(gaps), 2),
        "answer_ok": verdict.ok,
    }
