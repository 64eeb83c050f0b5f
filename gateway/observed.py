"""What the gateway counts. Labels are few and closed: no tenant, no channel."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.metrics import Metrics

_TRANSPORT = "sse"


class GatewayMetrics:
    """The gateway's metrics, made from the process' registry."""

    def __init__(self, metrics: Metrics) -> None:
        self.connections = metrics.gauge("connections", "Open streams.", ["transport"]).labels(_TRANSPORT)
        pushes = metrics.counter(
            "push_total",
            "Messages to clients: sent live, resumed from the ring or the log; streams: slow_closed, dropped (a gap).",
            ["transport", "result"],
        )
        self.sent = pushes.labels(_TRANSPORT, "sent")
        self.resumed = pushes.labels(_TRANSPORT, "resumed")
        self.gaps = pushes.labels(_TRANSPORT, "dropped")
        self.slow_closed = pushes.labels(_TRANSPORT, "slow_closed")
        self.auth_failures = metrics.counter("auth_failures_total", "Requests refused, by reason.", ["reason"])
        self.streams = metrics.counter("gateway_streams_total", "Streams by how they began or ended.", ["event"])
        self.repeats = metrics.counter(
            "gateway_repeats_total", "Records whose message id was seen before; not delivered."
        )
        self.invalid = metrics.counter(
            "gateway_invalid_records_total", "Records on a push topic that are not a message; passed over."
        )
        self.ring_bytes = metrics.gauge("gateway_ring_bytes", "Memory of recent messages.", ["partition"])
        self.ring_age = metrics.gauge("gateway_ring_age_seconds", "Age of the oldest message.", ["partition"])
        self.refused_heads = metrics.counter(
            "gateway_refused_heads_total", "Connections closed before a request was whole.", ["reason"]
        )
        self._push_seconds = metrics.histogram(
            "push_seconds", "From the record's time in Kafka to the write to its clients.", ["transport"]
        ).labels(_TRANSPORT)

    def observe_tick(self, now_s: float, written_at_s: Iterable[float]) -> None:
        """Note how old messages were when they had been written; wall seconds."""
        for at_s in written_at_s:
            self._push_seconds.observe(max(0.0, now_s - at_s))
