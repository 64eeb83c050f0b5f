"""The mirror's metrics."""

from __future__ import annotations

from runtime.metrics import Metrics


class MirrorMetrics:
    """Declared once a process. A stream is one of six names, a topic one of ten: both are safe as labels."""

    def __init__(self, metrics: Metrics) -> None:
        self.entries = metrics.counter(
            "mirror_entries_total",
            "Entries handled: sent, skipped (Kafka had it already), invalid (sent for the worker to bury).",
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
        self.trimmed = metrics.counter("stream_trimmed_total", "Entries removed behind every reader.", ("stream",))
        self.lag_entries = metrics.gauge("stream_lag_entries", "Entries not mirrored yet.", ("stream",))
        self.lag_seconds = metrics.gauge("stream_lag_seconds", "Age of the oldest of them.", ("stream",))
        self.consumer_lag = metrics.gauge("consumer_lag_messages", "Records the workers have not finished.", ("topic",))
        self.lag_observed = metrics.gauge(
            "lag_observed_timestamp_seconds", "When the lag was last measured, Unix time."
        )
