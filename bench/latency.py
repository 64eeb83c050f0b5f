"""`bench latency`: from an event's send to its row's visibility, at a steady rate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench import load
from bench.broker import Broker
from bench.child import started
from bench.cores import Cores
from bench.engine import say
from bench.headrace_worker import COMMAND, SIGHTINGS, WATCHED, Worker, topic_of
from bench.live import Arrival, Feed, Tail, delays_to_records, delays_to_rows, sightings
from bench.recount import check
from bench.run import LOG_GAMMA
from bench.workload import PARTITIONS

QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
# Events of the first seconds find cold caches, a young group and an unpaced flush.
WARM_UP_S = 3.0
READER_S = 5.0
SETTLE_S = 2.0
READY_S = 60.0

# What is printed of one line.
Line = dict[str, object]


async def latency(broker: Broker, store: str, rate: float, seconds: float, cores: Cores) -> list[Line]:
    """Three lines: the broker and this program's own reader, rows as queries see them, rows at a changelog's reader.

    Each has its own run: a reader takes the broker's time from the worker.
    """
    say("latency: broker and reader alone")
    alone = await _reader_alone(broker, rate)
    run = Run(broker, store, rate, seconds, cores)
    return [alone, await run.seen_by_queries(), await run.seen_by_a_reader()]


async def _reader_alone(broker: Broker, rate: float) -> Line:
    topic = topic_of("bench-reader")
    await load.create_topic(broker.bootstrap, topic)
    feed, tail = Feed(broker.bootstrap, topic, rate), Tail(broker.bootstrap, topic, PARTITIONS)
    await tail.start()
    await feed.send_for(READER_S)
    await asyncio.sleep(SETTLE_S)
    await tail.stop()
    return line_of("broker and reader alone", rate, delays_to_records(feed.sent, tail.arrivals), answer_ok=True)


@dataclass(frozen=True)
class Run:
    """A worker that is fed at a steady rate."""

    broker: Broker
    store: str
    rate: float
    seconds: float
    cores: Cores

    async def seen_by_queries(self) -> Line:
        """From an event's send until a query of the worker finds it in its row."""
        name = "bench-queries"
        noted = self.broker.folder / name / "sightings"
        feed, ok = await self._fed(name, WATCHED, {SIGHTINGS: str(noted)}, None)
        return self._line_of("in a query", feed, list(sightings(noted)), answer_ok=ok)

    async def seen_by_a_reader(self) -> Line:
        """From an event's send until its row's record is at a reader of the changelog."""
        worker = self._worker("bench-changelog")
        tail = Tail(self.broker.bootstrap, worker.changelog, PARTITIONS)
        feed, ok = await self._fed("bench-changelog", COMMAND, {}, tail)
        return self._line_of("at a changelog's reader", feed, tail.arrivals, answer_ok=ok)

    def _worker(self, name: str) -> Worker:
        return Worker(self.broker.bootstrap, topic_of(name), name, self.store, self.broker.embedded)

    async def _fed(self, name: str, command: list[str], more: dict[str, str], tail: Tail | None) -> tuple[Feed, bool]:
        """What was sent, and whether all rows are right at the end."""
        worker, folder = self._worker(name), self.broker.folder / name
        await load.create_topic(self.broker.bootstrap, worker.topic)
        environment = worker.environment(folder / "data") | more
        feed = Feed(self.broker.bootstrap, worker.topic, self.rate)
        with started(self.cores.command(command), environment, folder) as child:
            async with asyncio.timeout(READY_S):
                await child.ready(environment)
            if tail is not None:
                await tail.start()
            await feed.send_for(WARM_UP_S + self.seconds)
            await asyncio.sleep(SETTLE_S)
            if tail is not None:
                await tail.stop()
            child.check()
            await child.end()
        verdict = check(feed.right(), await worker.rows(LOG_GAMMA))
        say(f"latency: {name}: {verdict.text}")
        return feed, verdict.ok

    def _line_of(self, where: str, feed: Feed, arrivals: list[Arrival], *, answer_ok: bool) -> Line:
        warm = [event for event in feed.sent if event.at_s >= feed.sent[0].at_s + WARM_UP_S]
        return line_of(
            f"headrace-{self.store}, {where}", self.rate, delays_to_rows(warm, arrivals), answer_ok=answer_ok
        )


def line_of(name: str, rate: float, delays_s: Sequence[float], *, answer_ok: bool) -> Line:
    """The delays' quantiles; the answer is not right either when an event was never seen (an infinite delay)."""
    ordered = sorted(delays_s)
    seen = [delay_s for delay_s in ordered if math.isfinite(delay_s)]
    quantiles = {name: round(1000 * seen[int(q * (len(seen) - 1))], 1) for name, q in QUANTILES.items()}
    answer_ok = answer_ok and len(seen) == len(ordered)
    return {"name": name, "events_per_s": rate, "events": len(seen), **quantiles, "answer_ok": answer_ok}
