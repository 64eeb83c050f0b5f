"""Stock Faust's windowed table, as its documentation has it: `table[key] += 1` in a tumbling window, default settings.

It keeps counts only, which is less than everybody else does. The window is chosen by Faust's default, the timestamp of
the Kafka record.
"""

from __future__ import annotations

import sys
from datetime import timedelta

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


calls = app.topic(work.topic, value_type=Call, partitions=work.partitions)
counts = app.Table("counts", default=int, partitions=work.partitions).tumbling(
    work.window_ms / 1000, expires=timedelta(hours=1)
)


@app.agent(calls)
async def count(stream: StreamT[Call]) -> None:
    """Count each call into its window."""
    async for call in stream:
        counts[(call.tenant_id, call.tool)] += 1
        meter.n += 1
        if meter.n == work.events:
            await app.producer.flush()
            await app.consumer.commit()
            meter.done()
            meter.answer(
                [
                    (tenant, tool, round(1000 * start_s), number, None, None)
                    for ((tenant, tool), (start_s, _end_s)), number in counts.table.data.items()
                ]
            )
            leave()


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "-l", "info", "--without-web"]
    app.main()
