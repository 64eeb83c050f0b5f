"""Stock Faust's plain agent: it decodes each event and counts it in a dictionary; no table, nothing durable."""

from __future__ import annotations

import sys

import faust
from faust.types import StreamT
from meter import Meter, job, leave

work = job()
meter = Meter(work)
app = faust.App(work.group, broker=f"kafka://{work.bootstrap}", topic_partitions=work.partitions, datadir=work.folder)


class Call(faust.Record, serializer="json"):
    """What a row needs of an event."""

    tenant_id: str
    tool: str
    latency_ms: float
    status: str
    ts_ms: int


calls = app.topic(work.topic, value_type=Call, partitions=work.partitions)
counts: dict[tuple[str, str, int], list[int]] = {}


@app.agent(calls)
async def count(stream: StreamT[Call]) -> None:
    """Count each call into its window."""
    async for call in stream:
        key = (call.tenant_id, call.tool, call.ts_ms - call.ts_ms % work.window_ms)
        row = counts.setdefault(key, [0, 0])
        row[0] += 1
        row[1] += call.status == "error"
        meter.n += 1
        if meter.n == work.events:
            await app.consumer.commit()
            meter.done()
            meter.answer([(*key, *row, None) for key, row in counts.items()])
            leave()


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "-l", "info", "--without-web"]
    app.main()
