"""Quix Streams: a tumbling window reduced into count, errors and a log-histogram; state in RocksDB with a changelog.

Default settings. Windows close by the partition's time, so that the closing events of the workload emit all others.
"""

from __future__ import annotations

from typing import Any

from meter import Job, Meter, bucket_of, job, leave, p95_ms
from quixstreams import Application
from quixstreams.models.topics import TopicManager

# Later than any event is; a window is emitted when the partition is this far past its end.
GRACE_MS = 5_000
# The embedded broker does not report a topic's retention, and Quix Streams stops with a KeyError without it.
TopicManager.default_extra_config = {"retention.ms": "-1"}


def main() -> None:
    """Run until every record is processed; `run` commits state, changelog and offsets before it returns."""
    work = job()
    meter = Meter(work)
    answer: list[tuple[Any, ...]] = []
    app = Application(
        work.bootstrap, consumer_group=work.group, auto_offset_reset="earliest", state_dir=work.folder, loglevel="INFO"
    )
    topic = app.topic(work.topic, key_deserializer="str", value_deserializer="json")
    if "retention.ms" not in topic.broker_config.extra_config:
        topic.broker_config.extra_config["retention.ms"] = "-1"

    def begin(call: dict[str, Any]) -> dict[str, Any]:
        return reduce({"count": 0, "errors": 0, "buckets": {}}, call)

    def reduce(row: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
        meter.n += 1
        if meter.n == work.events:
            app.stop()  # after this record
        row["count"] += 1
        row["errors"] += call["status"] == "error"
        bucket, buckets = str(bucket_of(call["latency_ms"], work.log_gamma)), row["buckets"]
        buckets[bucket] = buckets.get(bucket, 0) + 1
        return row

    def keep(window: dict[str, Any], key: str, _timestamp: int, _headers: object) -> None:
        answer.append((*key.split("\x1f"), window["start"], window["value"]))

    windows = app.dataframe(topic).tumbling_window(work.window_ms, grace_ms=GRACE_MS).reduce(reduce, begin)
    windows.final(closing_strategy="partition").update(keep, metadata=True)
    app.run()
    meter.done()
    meter.answer([_row(work, *row) for row in answer])
    leave()


def _row(work: Job, tenant: str, tool: str, start_ms: int, row: dict[str, Any]) -> tuple[object, ...]:
    buckets = {int(bucket): count for bucket, count in row["buckets"].items()}
    return (tenant, tool, start_ms, row["count"], row["errors"], p95_ms(buckets, work.log_gamma))


main()
