"""Pathway over its Kafka connector, one thread. No persistence: nothing durable.

The tumbling window is written as a grouping by its start: with `windowby` the same took half as much CPU again (13.7
instead of 9.0 us an event). It is done when the rows that it has emitted hold every event.
"""

from __future__ import annotations

from typing import Any

import pathway as pw
from meter import Meter, job, leave

SEPARATOR = "\x1f"


class Call(pw.Schema):  # type: ignore[misc]  # not installed where types are checked
    """What a row needs of an event."""

    tenant_id: str
    tool: str
    latency_ms: float
    status: str
    ts_ms: int


work = job()
meter = Meter(work)
rows: dict[tuple[str, int], tuple[int, int, tuple[float, ...]]] = {}


def changed(key: pw.Pointer, row: dict[str, Any], time: int, is_addition: bool) -> None:  # noqa: ARG001, FBT001
    """Keep the newest version of each row."""
    place = (row["key"], row["start_ms"])
    if is_addition:
        rows[place] = (row["count"], row["errors"], row["latencies_ms"])
        meter.n += row["count"]
    else:
        meter.n -= row["count"]


def settled(time: int) -> None:  # noqa: ARG001
    """All changes of one commit are here."""
    if meter.n == work.events:
        meter.done()
        meter.answer([_row(*place, row) for place, row in rows.items()])
        leave()


def _row(key: str, start_ms: int, row: tuple[int, int, tuple[float, ...]]) -> tuple[object, ...]:
    count, errors, latencies_ms = row
    return (*key.split(SEPARATOR), start_ms, count, errors, latencies_ms[int(0.95 * (count - 1))])


calls = pw.io.kafka.read(
    {"bootstrap.servers": work.bootstrap, "group.id": work.group, "auto.offset.reset": "earliest"},
    topic=work.topic,
    schema=Call,
    format="json",
)
keyed = calls.select(
    pw.this.latency_ms,
    start_ms=pw.this.ts_ms // work.window_ms * work.window_ms,
    key=pw.this.tenant_id + SEPARATOR + pw.this.tool,
    error=pw.if_else(pw.this.status == "error", 1, 0),
)
windows = keyed.groupby(pw.this.key, pw.this.start_ms).reduce(
    pw.this.key,
    pw.this.start_ms,
    count=pw.reducers.count(),
    errors=pw.reducers.sum(pw.this.error),
    latencies_ms=pw.reducers.sorted_tuple(pw.this.latency_ms),
)
pw.io.subscribe(windows, changed, on_time_end=settled)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
