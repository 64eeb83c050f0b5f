"""The tool_latency table: for each tenant, tool and window a count, errors, a sum and a log-histogram.

Where it stands: `agents.tool_calls` folds decoded calls into these rows; the next stop of a closed window is
`contracts.push`. Everything here is pure.

A row, MessagePack, arrays only:  key [kind, tenant, tool, window start ms]
                                  value [format, position, announced, count, errors, sum us, max us, histogram]

`position` is the highest source offset folded into the row: a record at or below it is a repeat and changes nothing.
`announced` is the position at which the closed window was last pushed, and the push acknowledged. So
`position > announced` and a watermark past the window's end mean: push it (again). The position is also the window's
revision, which makes the message's id the same however often it is sent.

Sums are integers (microseconds), so that a row is bit-equal under any batching.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from contracts.names import TenantId
from tables import sketches

KIND = "tl"
FORMAT = 1


class WindowKey(NamedTuple):
    """Which row: tenant, tool and the window's start in milliseconds since the epoch."""

    tenant_id: TenantId
    tool: str
    start_ms: int


@dataclass(slots=True)
class Row:
    """One window's state; see the module's text for `position` and `announced`."""

    position: int = -1
    announced: int = -1
    count: int = 0
    errors: int = 0
    sum_us: int = 0
    max_us: int = 0
    histogram: dict[int, int] = field(default_factory=dict)

    @property
    def unannounced(self) -> bool:
        """Whether the row holds something that has not been pushed as a closed window."""
        return self.position > self.announced


@dataclass(frozen=True)
class Summary:
    """What people read off a row; latencies in milliseconds, within 1 % (count, errors and sum are exact)."""

    count: int
    errors: int
    sum_us: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def add(row: Row, *, offset: int, latency_us: int, error: bool) -> bool:
    """Fold one call into a row; False when its record was folded before."""
    if offset <= row.position:
        return False
    row.position = offset
    row.count += 1
    row.errors += error
    row.sum_us += latency_us
    row.max_us = max(row.max_us, latency_us)
    bucket = sketches.bucket_of(latency_us)
    row.histogram[bucket] = row.histogram.get(bucket, 0) + 1
    return True


def revision_of(row: Row) -> int:
    """The window's revision as people see it: 1 for the partition's very first record, growing with each change."""
    return row.position + 1


def merge(left: Row, right: Row) -> Row:
    """Two windows as one longer one; its position and announcement mean nothing and stay at -1."""
    return Row(
        count=left.count + right.count,
        errors=left.errors + right.errors,
        sum_us=left.sum_us + right.sum_us,
        max_us=max(left.max_us, right.max_us),
        histogram=sketches.merged(left.histogram, right.histogram),
    )


def summarise(row: Row) -> Summary:
    """Percentiles and totals of a row."""
    p50, p95, p99 = (round(sketches.quantile(row.histogram, q) / 1000, 3) for q in (0.5, 0.95, 0.99))
    return Summary(row.count, row.errors, row.sum_us, p50, p95, p99, row.max_us / 1000)


def encode_key(key: WindowKey) -> bytes:
    """A key's bytes, the same in the store and on the changelog."""
    return msgspec.msgpack.encode((KIND, *key))


def decode_key(raw: bytes) -> WindowKey | None:
    """The key, or None when the bytes are another kind of row."""
    parts = msgspec.msgpack.decode(raw)
    if parts[0] != KIND:
        return None
    _, tenant, tool, start_ms = parts
    return WindowKey(TenantId(tenant), tool, start_ms)


def encode_row(row: Row) -> bytes:
    """A row's bytes, with the format version first."""
    return msgspec.msgpack.encode(
        (
            FORMAT,
            row.position,
            row.announced,
            row.count,
            row.errors,
            row.sum_us,
            row.max_us,
            sketches.pack(row.histogram),
        )
    )


def decode_row(raw: bytes) -> Row:
    """The row.

    Raises:
        ValueError: the row was written by a newer Headrace; names both formats.
    """
    version, *fields = msgspec.msgpack.decode(raw)
    if version != FORMAT:
        msg = f"a tool_latency row has format {version}, this worker reads {FORMAT}: upgrade the worker"
        raise ValueError(msg)
    position, announced, count, errors, sum_us, max_us, packed = fields
    return Row(position, announced, count, errors, sum_us, max_us, sketches.unpack(packed))
