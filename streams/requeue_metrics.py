"""What the requeuer tells of itself and of the dead letters on /metrics."""

from __future__ import annotations

from runtime.metrics import Metrics


class RequeueMetrics:
    """The requeuer's metrics in one registry. Of several control processes only the one that leads tells counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.leads = metrics.gauge("requeuer_leads", "1 in the process whose turn it is to send requeued letters.")
        self.sent = metrics.counter("dlq_sent_total", "Requeued letters that left, repeats included.", ["source"])
        self.unsendable = metrics.counter(
            "dlq_unsendable_total", "Requeued letters that can never leave, by reason.", ["source", "reason"]
        )
        self.moved = metrics.counter(
            "dlq_requeued_total", "Requeued letters by what became of them: recovered, dead_again.", ["result"]
        )
        self.failures = metrics.counter("requeuer_failures_total", "Turns that failed by a mistake of ours.")
        self.gave_up = metrics.counter(
            "dlq_requeues_given_up_total", "Requeues ended because their letters died again."
        )
        self.entries = metrics.gauge("dlq_entries", "Letters that are dead.", ["stream"])
        self.oldest_seconds = metrics.gauge(
            "dlq_oldest_entry_seconds", "Time since the first failure of the oldest dead letter.", ["stream"]
        )
        self.silent_seconds = metrics.gauge(
            "dlq_oldest_sent_seconds", "Time since the oldest requeued letter left of which nothing was heard yet."
        )

    def forget(self) -> None:
        """Tell no counts any more: another process leads, and what stood here would stay as it was for ever."""
        self.entries.clear()
        self.oldest_seconds.clear()
        self.silent_seconds.set(0)
