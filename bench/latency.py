"""`bench latency`: from an event's send to its row's visibility, at a steady rate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

from bench import load
from bench.broker import Broker
from bench.child import started
from bench.cores import Cores
from bench.engine import say
from bench.headrace_worker import COMMAND, Worker, topic_of
from bench.live import Feed, Tail, delays_to_records, delays_to_rows
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
    """Two lines: the broker and this program's own reader, and Headrace."""
    return [
        await _reader_alone(broker, rate),
        await _headrace(broker, store, rate, seconds, cores),
    ]


async def _reader_alone(broker: Broker, rate: float) -> Line:
    topic = topic_of("bench-reader")
    await load.create_topic(broker.bootstrap, topic)
    feed, tail = Feed(broker.bootstrap, topic, rate), Tail(broker.bootstrap, topic, PARTITIONS)
    await tail.start()
    await feed.send_for(READER_S)
    await asyncio.sleep(SETTLE_S)
    await tail.stop()
    return _line("broker and reader alone", rate, delays_to_records(feed.sent, tail.arrivals), answer_ok=True)


async def _headrace(broker: Broker, store: str, rate: float, seconds: float, cores: Cores) -> Line:
    topic = topic_of("bench-latency")
    await load.create_topic(broker.bootstrap, topic)
    worker = Worker(broker.bootstrap, topic, "bench-latency", store, broker.embedded)
    folder: Path = broker.folder / "latency"
    environment = worker.environment(folder / "data")
    feed = Feed(broker.bootstrap, topic, rate)
    tail = Tail(broker.bootstrap, worker.changelog, PARTITIONS)
    with started(cores.command(COMMAND), environment, folder) as child:
        async with asyncio.timeout(READY_S):
            await child.ready(environment)
        await tail.start()
        await feed.send_for(WARM_UP_S + seconds)
        await asyncio.sleep(SETTLE_S)
        await tail.stop()
        await child.end()
    verdict = check(feed.right(), await worker.rows(LOG_GAMMA))
    say(f"latency: {verdict.text}")
    warm = [event for event in feed.sent if event.at_s >= feed.sent[0].at_s + WARM_UP_S]
    return _line(f"headrace-{store}", rate, delays_to_rows(warm, tail.arrivals), answer_ok=verdict.ok)


def _line(name: str, rate: float, delays_s: Sequence[float], *, answer_ok: bool) -> Line:
    ordered = sorted(delays_s)
    seen = [delay_s for delay_s in ordered if math.isfinite(delay_s)]
    quantiles = {name: round(1000 * seen[int(q * (len(seen) - 1))], 1) for name, q in QUANTILES.items()}
    answer_ok = answer_ok and len(seen) == len(ordered)
    return {"name": name, "events_per_s": rate, "events": len(seen), **quantiles, "answer_ok": answer_ok}
