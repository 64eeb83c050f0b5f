"""Bytewax: fold_window over the Kafka source, one worker, to the topic's end. No recovery store: nothing durable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.run import cli_main
from bytewax.testing import TestingSink
from meter import Meter, bucket_of, job, leave, p95_ms

BATCH_RECORDS = 5_000
WAIT = timedelta(seconds=5)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Call(msgspec.Struct, gc=False):
    """What a row needs of an event."""

    tenant_id: str
    tool: str
    latency_ms: float
    status: str
    ts_ms: int


@dataclass(slots=True)
class Row:
    """A window's state."""

    count: int = 0
    errors: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


work = job()
meter = Meter(work)
decode = msgspec.json.Decoder(Call).decode


def call_of(message: KafkaSourceMessage) -> tuple[str, Call]:
    """The key and the decoded event."""
    call = decode(message.value)
    meter.n += 1
    return f"{call.tenant_id}\x1f{call.tool}", call


def time_of(call: Call) -> datetime:
    """Event time."""
    return datetime.fromtimestamp(call.ts_ms / 1000, UTC)


def fold(row: Row, call: Call) -> Row:
    """Count a call."""
    row.count += 1
    row.errors += call.status == "error"
    bucket = bucket_of(call.latency_ms, work.log_gamma)
    row.buckets[bucket] = row.buckets.get(bucket, 0) + 1
    return row


def merge(left: Row, right: Row) -> Row:
    """Two windows as one; tumbling windows never need it."""
    buckets = Counter(left.buckets) + Counter(right.buckets)
    return Row(left.count + right.count, left.errors + right.errors, dict(buckets))


def main() -> None:
    """Run the flow to the end of the topic, which closes all windows."""
    closed: list[tuple[str, tuple[int, Row]]] = []
    flow = Dataflow("rows")
    source = KafkaSource([work.bootstrap], [work.topic], tail=False, batch_size=BATCH_RECORDS)
    calls = op.map("decode", op.input("calls", flow, source), call_of)
    windows = win.fold_window(
        "rows",
        calls,
        EventClock(time_of, wait_for_system_duration=WAIT),
        TumblingWindower(length=timedelta(milliseconds=work.window_ms), align_to=EPOCH),
        Row,
        fold,
        merge,
        ordered=False,
    )
    op.output("out", windows.down, TestingSink(closed))
    meter.start()
    cli_main(flow)
    meter.done()
    meter.answer(
        [
            (*key.split("\x1f"), window * work.window_ms, row.count, row.errors, p95_ms(row.buckets, work.log_gamma))
            for key, (window, row) in closed
        ]
    )
    leave()


main()
