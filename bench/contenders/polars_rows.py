"""Hand-rolled: confluent-kafka and polars. Nothing of it survives a crash: a limit, not an engine."""

from __future__ import annotations

import polars as pl
from confluent_kafka import Consumer
from meter import Job, Meter, job, p95_ms

BATCH_RECORDS = 20_000
# Partial results are merged when there are this many of them, so that memory does not grow with the stream.
MERGE_EVERY = 20
ROW = ["tenant_id", "tool", "window", "bucket"]
SCHEMA = {
    "tenant_id": pl.String,
    "tool": pl.String,
    "latency_ms": pl.Float64,
    "status": pl.String,
    "ts_ms": pl.Int64,
}


def partial(values: list[bytes], work: Job) -> pl.DataFrame:
    """Counts and errors of each histogram bucket of each row."""
    calls = pl.read_ndjson(b"\n".join(values), schema=SCHEMA).lazy()
    return (
        calls.with_columns(
            window=pl.col("ts_ms") // work.window_ms * work.window_ms,
            bucket=((pl.col("latency_ms") * 1000).log() / work.log_gamma).ceil().cast(pl.Int32),
        )
        .group_by(ROW)
        .agg(count=pl.len(), errors=(pl.col("status") == "error").sum())
        .collect()
    )


def merged(partials: list[pl.DataFrame]) -> pl.DataFrame:
    """Several partial results as one."""
    return pl.concat(partials).group_by(ROW).agg(pl.col("count").sum(), pl.col("errors").sum())


def rows(total: pl.DataFrame, work: Job) -> list[tuple[object, ...]]:
    """The answer."""
    grouped = total.group_by(ROW[:3]).agg("bucket", "count", pl.col("errors").sum())
    answer: list[tuple[object, ...]] = []
    for tenant, tool, window, buckets, counts, errors in grouped.iter_rows():
        p95 = p95_ms(dict(zip(buckets, counts, strict=True)), work.log_gamma)
        answer.append((tenant, tool, window, sum(counts), errors, p95))
    return answer


def main() -> None:
    """Read, group and count to the end."""
    work = job()
    meter = Meter(work)
    consumer = Consumer({"bootstrap.servers": work.bootstrap, "group.id": work.group, "auto.offset.reset": "earliest"})
    consumer.subscribe([work.topic])
    partials: list[pl.DataFrame] = []
    while meter.n < work.events:
        messages = consumer.consume(BATCH_RECORDS, timeout=0.1)
        values = [message.value() for message in messages if message.error() is None]
        if values:
            partials.append(partial(values, work))
            meter.n += len(values)
        if len(partials) >= MERGE_EVERY:
            partials = [merged(partials)]
    total = merged(partials)
    consumer.commit(asynchronous=False)
    meter.done()
    meter.answer(rows(total, work))
    consumer.close()


main()
