"""The tool-latency workload: a stream of `tool_executed` events, the same for the same seed. Pure.

Events of 216 bytes, 10,000 a second of event time, 20 tenants x 50 tools, so that a 10 s window of one tenant and tool
(a row) gets 100 events on average. 3 % are errors. 2 % are up to 2 s late; none is older than the stream's first
instant. Latencies are lognormal (median 90 ms, p95 335 ms), in whole microseconds.

Four partitions, by Kafka's default partitioner over tenant and tool, as `contracts.routing` keys them. The Kafka
timestamp is the event time, and beside the contract's RFC 3339 `ts` each event carries it as the number `ts_ms`: every
contender may take whichever is quickest for it.

The stream ends with one *closing* event in each partition, dated a minute later and of a tenant of its own: engines
that close windows by later events close all of the others'. Its rows are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from contracts.names import KEY_SEPARATOR
from streams.kafka_log import partition_for

EVENTS_PER_S = 10_000
TENANTS = 20
TOOLS = 50
PARTITIONS = 4
WINDOW_MS = 10_000
ERROR_RATIO = 0.03
LATE_RATIO = 0.02
MOST_LATE_MS = 2_000
CLOSING_AFTER_MS = 60_000
CLOSING_TENANT = "closing"
SEED = 7
# Rows of the generator's arrays that are made at once; the stream must not depend on it, so it is part of the seed.
BLOCK = 100_000


@dataclass(frozen=True)
class Shape:
    """How many keys, and how fast event time runs; the rest is as above."""

    tenants: int = TENANTS
    tools: int = TOOLS
    events_per_s: int = EVENTS_PER_S

    @property
    def keys(self) -> int:
        """Pairs of tenant and tool."""
        return self.tenants * self.tools


@dataclass(frozen=True)
class Columns:
    """A stretch of events as arrays of equal length. `key` is tenant * tools + tool; `ts_ms` is since the epoch."""

    key: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    latency_us: NDArray[np.int64]
    error: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True)
class Workload:
    """A stream of `events` events (and the closing ones) that begins at `start_ms`."""

    events: int
    start_ms: int
    shape: Shape = Shape()

    @property
    def span_ms(self) -> int:
        """Event time from the first event to the last, closing ones apart."""
        return -(-self.events * 1000 // self.shape.events_per_s)

    @property
    def total(self) -> int:
        """Records in the topic, closing ones included."""
        return self.events + PARTITIONS

    @cached_property
    def tenant_names(self) -> list[str]:
        """UUIDs, as products write them."""
        random = np.random.default_rng([SEED, 1])
        raw = random.bytes(16 * self.shape.tenants).hex()
        texts = (raw[i : i + 32] for i in range(0, len(raw), 32))
        return [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-8{t[17:20]}-{t[20:]}" for t in texts]

    @cached_property
    def tool_names(self) -> list[str]:
        """tool_00 and so on."""
        return [f"tool_{number:02d}" for number in range(self.shape.tools)]

    @cached_property
    def key_names(self) -> list[tuple[str, str]]:
        """(tenant, tool) of each key number."""
        return [(tenant, tool) for tenant in self.tenant_names for tool in self.tool_names]

    @cached_property
    def key_bytes(self) -> list[bytes]:
        """The Kafka key of each key number."""
        return [key_of(tenant, tool) for tenant, tool in self.key_names]

    @cached_property
    def partition_of(self) -> NDArray[np.int64]:
        """The partition of each key number."""
        return np.array([partition_for(key, PARTITIONS) for key in self.key_bytes])

    def blocks(self) -> Iterator[Columns]:
        """The stream in order, BLOCK events at a time, closing events left out."""
        for number, first in enumerate(range(0, self.events, BLOCK)):
            # Always a whole block, cut afterwards: a shorter stream is the beginning of a longer one.
            yield _cut(self._block(number, first), min(BLOCK, self.events - first))

    def _block(self, number: int, first: int) -> Columns:
        random = np.random.default_rng([SEED, 2, number])
        key = random.integers(0, self.shape.keys, BLOCK)
        on_time_ms = self.start_ms + (np.arange(first, first + BLOCK) * 1000) // self.shape.events_per_s
        late_ms = np.where(random.random(BLOCK) < LATE_RATIO, random.integers(0, MOST_LATE_MS + 1, BLOCK), 0)
        ts_ms = np.maximum(on_time_ms - late_ms, self.start_ms)
        latency_us = np.rint(random.lognormal(4.5, 0.8, BLOCK) * 1000).astype(np.int64)
        return Columns(key, ts_ms, latency_us, random.random(BLOCK) < ERROR_RATIO)

    def values(self, columns: Columns) -> list[bytes]:
        """The events as JSON."""
        names, text = self.key_names, EventText()
        arrays = (columns.key, columns.latency_us, columns.error, columns.ts_ms)
        return [text.of(*names[key], *rest) for key, *rest in zip(*(array.tolist() for array in arrays), strict=True)]

    def closing(self) -> list[tuple[int, bytes, bytes, int]]:
        """One (partition, key, value, timestamp in ms) for each partition."""
        ts_ms, text = self.start_ms + self.span_ms + CLOSING_AFTER_MS, EventText()
        records: dict[int, tuple[int, bytes, bytes, int]] = {}
        number = 0
        while len(records) < PARTITIONS:
            tool = f"closing_{number}"
            key = key_of(CLOSING_TENANT, tool)
            partition = partition_for(key, PARTITIONS)
            records.setdefault(
                partition, (partition, key, text.of(CLOSING_TENANT, tool, 1000, error=False, ts_ms=ts_ms), ts_ms)
            )
            number += 1
        return [records[partition] for partition in range(PARTITIONS)]


class EventText:
    """Events as JSON, about 210 bytes each."""

    def __init__(self) -> None:
        self._seconds: dict[int, bytes] = {}

    def of(self, tenant: str, tool: str, latency_us: int, error: bool, ts_ms: int) -> bytes:  # noqa: FBT001 - a column
        """One event."""
        second, ms = divmod(ts_ms, 1000)
        text = self._seconds.get(second)
        if text is None:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
            self._seconds[second] = text
        return (
            b'{"event":"tool_executed","version":"1.0","tenant_id":"%b","tool":"%b","latency_ms":%.3f,"status":"%b",'
            b'"ts":"%b.%03dZ","ts_ms":%d,"cache_hit":%b}'
            % (
                tenant.encode(),
                tool.encode(),
                latency_us / 1000,
                b"error" if error else b"ok",
                text,
                ms,
                ts_ms,
                b"false" if latency_us % 5 else b"true",
            )
        )


def key_of(tenant: str, tool: str) -> bytes:
    """The Kafka key of an event."""
    return f"{tenant}{KEY_SEPARATOR}{tool}".encode()


def _cut(columns: Columns, length: int) -> Columns:
    return Columns(columns.key[:length], columns.ts_ms[:length], columns.latency_us[:length], columns.error[:length])


def start_for(events: int, shape: Shape, now_ms: int) -> int:
    """A start, on a window's border, so that even the closing events are in the past at `now_ms`."""
    span_ms = Workload(events, 0, shape).span_ms + CLOSING_AFTER_MS + WINDOW_MS
    return (now_ms - span_ms) // WINDOW_MS * WINDOW_MS
