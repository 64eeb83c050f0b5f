"""What the agents count. Names as in docs/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.effect_counts import EffectCounts

if TYPE_CHECKING:
    from runtime.metrics import Metrics
    from streams.record_chunk import RecordChunk


class AgentMetrics:
    """The worker's metrics, shared by all agents."""

    def __init__(self, metrics: Metrics) -> None:
        self.events = metrics.counter(
            "events_total", "Records folded, by agent and what became of them.", ("flow", "result")
        )
        self.stage = metrics.histogram(
            "stage_seconds", "From a record's arrival in Kafka to its fold.", ("stage", "flow")
        )
        self.flush_failures = metrics.counter(
            "flush_failures_total", "Flush steps that failed and were repeated, by agent.", ("flow",)
        )
        self.late = metrics.counter(
            "late_events_total",
            "Events that came after their window was closed, by table and what became of them.",
            ("table", "result"),
        )
        self.rebalances = metrics.counter("rebalances_total", "Times that partitions were taken away for a rebalance.")
        self.alerts_active = metrics.gauge("alerts_active_count", "Alerts firing now on this worker.", ("severity",))

        self.effects = EffectCounts(metrics)

    def folded(self, agent: str, chunk: RecordChunk, now_s: float) -> None:
        """Count a chunk, and note how old its newest record is."""
        self.events.labels(agent, "ok").inc(len(chunk))
        self.stage.labels("kafka_agent", agent).observe(max(0.0, now_s - chunk.newest_ms / 1000))
