"""Live traffic: events sent at a steady rate, and the table's changelog watched as its rows appear.

What is sent and what appears are noted with monotonic times and put together afterwards: an event is visible when the
first version of its row appears whose position is at or past the event's offset. It appears twice: in the worker's
store, where queries see it (`sightings`), and then at whoever reads the changelog (`Tail`).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from bench.headrace_worker import KIND
from bench.recount import P95, RowAnswer, RowKey
from bench.workload import ERROR_RATIO, SEED, WINDOW_MS, EventText, Shape, Workload
from runtime.settings import KafkaSettings
from streams.kafka_log import Cluster, Partition, Record

# The embedded broker holds an empty fetch for all of this, so it is also how exact an arrival's time is.
TAIL_WAIT_MS = 5
# Positions carry the source topic's incarnation above these bits.
OFFSET_MASK = (1 << 40) - 1
_noted = msgspec.json.Decoder(tuple[float, list[tuple[bytes, int]]])


@dataclass(frozen=True, slots=True)
class Sent:
    """One event, and when it was given to the producer."""

    row: RowKey
    at_s: float
    latency_us: int
    error: bool
    acknowledged: asyncio.Future[Any]
    """The broker's answer, with partition and offset."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that the tail saw: its partition and offset, the row and the position in it (None: it has none)."""

    at_s: float
    partition: int
    offset: int
    row: RowKey | None
    position: int


@dataclass
class Feed:
    """Sends events of now, evenly spaced."""

    bootstrap: str
    topic: str
    rate: float
    sent: list[Sent] = field(default_factory=list)

    async def send_for(self, seconds: float) -> None:
        """Send for so long; returns when the broker has everything."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await producer.start()
        try:
            await self._send(producer, int(seconds * self.rate))
        finally:
            await producer.stop()

    async def send_until(self, stop: asyncio.Event) -> None:
        """Send until told to stop."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await producer.start()
        try:
            while not stop.is_set():
                await self._send(producer, int(self.rate))
        finally:
            await producer.stop()

    def right(self) -> dict[RowKey, RowAnswer]:
        """Every row of what was sent, counted one by one."""
        held: defaultdict[RowKey, list[int]] = defaultdict(list)
        errors: defaultdict[RowKey, int] = defaultdict(int)
        for event in self.sent:
            held[event.row].append(event.latency_us)
            errors[event.row] += event.error
        return {
            row: RowAnswer(len(us), errors[row], sorted(us)[int(P95 * (len(us) - 1))] / 1000)
            for row, us in held.items()
        }

    async def _send(self, producer: Any, count: int) -> None:  # noqa: ANN401  aiokafka has no types
        text, workload = EventText(), Workload(count, 0, Shape())
        random = np.random.default_rng([SEED, 3, len(self.sent)])
        keys = random.integers(0, workload.shape.keys, count).tolist()
        latencies = np.rint(random.lognormal(4.5, 0.8, count) * 1000).astype(np.int64).tolist()
        failures = (random.random(count) < ERROR_RATIO).tolist()
        began_s = time.monotonic()
        for number, (key, latency_us, error) in enumerate(zip(keys, latencies, failures, strict=True)):
            behind_s = began_s + number / self.rate - time.monotonic()
            await asyncio.sleep(max(behind_s, 0))
            (tenant, tool), now_ms = workload.key_names[key], int(time.time() * 1000)
            value = text.of(tenant, tool, latency_us, error, now_ms)
            row, at_s = (tenant, tool, now_ms - now_ms % WINDOW_MS), time.monotonic()
            answer = await producer.send(self.topic, value, workload.key_bytes[key], timestamp_ms=now_ms)
            self.sent.append(Sent(row, at_s, latency_us, error, answer))
        await producer.flush()


class Tail:
    """Notes when records of a topic arrive, from its end at `start` until `stop`."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._places = [Partition(topic, number) for number in range(partitions)]
        self._cluster = Cluster(KafkaSettings(bootstrap=bootstrap))
        self._task: asyncio.Task[None] | None = None
        self.arrivals: list[Arrival] = []

    async def start(self) -> None:
        """Begin at the end of the topic, which exists."""
        await self._cluster.start()
        at = await self._cluster.true_end_offsets(self._places)
        self._task = asyncio.create_task(self._follow(at))

    async def stop(self) -> None:
        """End, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._cluster.stop()

    async def _follow(self, at: dict[Partition, int]) -> None:
        while True:
            for answer in await self._cluster.fetch(at, max_wait_ms=TAIL_WAIT_MS):
                now_s = time.monotonic()
                self.arrivals += [_arrival(record, now_s) for record in answer.records]
                at[answer.partition] = answer.next_offset


def _arrival(record: Record, now_s: float) -> Arrival:
    row, position = None, -1
    if record.value is not None and record.topic.endswith("-changelog"):
        row = _row_of(record.key or b"")
        if row is not None:
            position = msgspec.msgpack.decode(record.value)[1] & OFFSET_MASK
    return Arrival(now_s, record.partition, record.offset, row, position)


def _row_of(raw_key: bytes) -> RowKey | None:
    kind, *place = msgspec.msgpack.decode(raw_key)
    if kind != KIND:
        return None
    start_ms, tenant, tool, _version = place
    return (tenant, tool, start_ms)


def sightings(path: Path) -> Iterator[Arrival]:
    """Rows as the worker's queries came to see them, out of what `bench.store_notes` noted."""
    for line in path.read_bytes().splitlines():
        at_s, rows = _noted.decode(line)
        for raw_key, position in rows:
            row = _row_of(raw_key)
            if row is not None:
                yield Arrival(at_s, -1, -1, row, position & OFFSET_MASK)


def delays_to_rows(sent: Iterable[Sent], arrivals: Iterable[Arrival]) -> list[float]:
    """Seconds from each event to the first arrival of its row that holds it; infinite when none did."""
    versions: defaultdict[RowKey, list[tuple[int, float]]] = defaultdict(list)
    for arrival in arrivals:
        held = versions[arrival.row] if arrival.row is not None else []
        if not held or arrival.position > held[-1][0]:
            held.append((arrival.position, arrival.at_s))
    return [_first_at(versions[event.row], event.acknowledged.result().offset) - event.at_s for event in sent]


def delays_to_records(sent: Iterable[Sent], arrivals: Iterable[Arrival]) -> list[float]:
    """Seconds from each event to its own record's arrival: what the broker and the tail take by themselves."""
    seen = {(arrival.partition, arrival.offset): arrival.at_s for arrival in arrivals}
    answers = ((event.at_s, event.acknowledged.result()) for event in sent)
    return [seen.get((answer.partition, answer.offset), float("inf")) - at_s for at_s, answer in answers]


def _first_at(versions: list[tuple[int, float]], offset: int) -> float:
    index = bisect_left(versions, (offset, 0.0))
    return versions[index][1] if index < len(versions) else float("inf")


def longest_gaps(arrivals: Iterable[Arrival], partitions: int, from_s: float, to_s: float) -> list[float]:
    """For each partition the longest time without an arrival that lay, at least partly, between two times."""
    times: Mapping[int, list[float]] = {number: [] for number in range(partitions)}
    for arrival in arrivals:
        times[arrival.partition].append(arrival.at_s)
    return [_longest(times[number], from_s, to_s) for number in range(partitions)]


def _longest(times: list[float], from_s: float, to_s: float) -> float:
    gaps = [after - before for before, after in pairwise(times) if after > from_s and before < to_s]
    return max(gaps, default=to_s - from_s)
