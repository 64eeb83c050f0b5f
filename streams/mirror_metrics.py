"""The mirror's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.mirror_record import Mirrored


class MirrorMetrics:
    """Declared once a process. A stream is one of six names, a topic one of ten: both are safe as labels.

    Consumer groups of a stream are what operators made there: a handful.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._declare_room(metrics)
        self.entries = metrics.counter(
            "mirror_entries_total",
            "Entries handled: sent, skipped (Kafka had it already), invalid (sent for the worker to bury), parked "
            "(over its tenant's quota: sent later).",
            ("stream", "result"),
        )
        self.stage_seconds = metrics.histogram(
            "stage_seconds", "From one stage's write to the next one's acknowledgement.", ("stage", "flow")
        )
        self.owned = metrics.gauge("mirror_owned_streams", "1 while this process owns the stream.", ("stream",))
        self.resumes = metrics.counter(
            "mirror_resumes_total", "Times a stream was taken up, by where reading went on.", ("stream", "reason")
        )
        self.fences = metrics.counter(
            "mirror_fences_total",
            "Times a former owner's batch might have been in flight, and was fenced off.",
            ("stream",),
        )
        self.failures = metrics.counter(
            "mirror_failures_total", "Times a server failed a stream; it is taken up again.", ("stream", "server")
        )
        self.parked_entries = metrics.gauge(
            "mirror_parked_entries", "Entries that wait for their tenants' quotas.", ("stream",)
        )
        self.parked_tenants = metrics.gauge("mirror_parked_tenants", "Tenants whose entries wait.", ("stream",))
        self.lag_entries = metrics.gauge("stream_lag_entries", "Entries not mirrored yet.", ("stream",))
        self.lag_seconds = metrics.gauge("stream_lag_seconds", "Age of the oldest of them.", ("stream",))
        self.consumer_lag = metrics.gauge("consumer_lag_messages", "Records the workers have not finished.", ("topic",))
        self.lag_observed = metrics.gauge(
            "lag_observed_timestamp_seconds", "When the lag was last measured, Unix time."
        )

    def _declare_room(self, metrics: Metrics) -> None:
        """What a stream takes up, and what had to go."""
        self.trimmed = metrics.counter("stream_trimmed_total", "Entries removed behind every reader.", ("stream",))
        self.trimmed_unread = metrics.counter(
            "stream_trimmed_unread_total",
            "Entries removed that a consumer group had not finished, about.",
            ("stream", "consumer_group"),
        )
        self.trim_pressure = metrics.gauge(
            "stream_trim_pressure_ratio",
            "How near a consumer group is to losing entries by its silence, their age or the stream's memory; 1: now.",
            ("stream", "consumer_group"),
        )
        self.unread_seconds = metrics.gauge(
            "stream_unread_seconds",
            "Age of the oldest entry that a group has not finished.",
            ("stream", "consumer_group"),
        )
        self.memory_bytes = metrics.gauge("stream_memory_bytes", "Memory of a stream in Redis, estimated.", ("stream",))

    def forget(self, stream: str) -> None:
        """The stream is not ours any more: whoever owns it tells of it from now on."""
        for gauge in (
            *(self.lag_entries, self.lag_seconds, self.memory_bytes, self.parked_entries, self.parked_tenants),
            *(self.unread_seconds, self.trim_pressure),
        ):
            gauge.remove_by_labels({"stream": stream})

    def mirrored(self, stream: str, sent: Sequence[Mirrored], now_ms: float, *, skipped: int) -> None:
        """Count a batch: `sent` was acknowledged just now, the others Kafka had already."""
        invalid = sum(item.invalid for item in sent)
        self.entries.labels(stream, "sent").inc(len(sent) - invalid)
        self.entries.labels(stream, "invalid").inc(invalid)
        self.entries.labels(stream, "skipped").inc(skipped)
        stage = self.stage_seconds.labels("stream_kafka", stream)
        for item in sent:
            stage.observe(max(0.0, now_ms - item.id.ms) / 1000)
