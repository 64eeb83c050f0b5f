"""What tables tell of their recovery. Names as in docs/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.metrics import Metrics


class TableMetrics:
    """The metrics of all tables of a worker."""

    def __init__(self, metrics: Metrics) -> None:
        self.recovery = metrics.gauge(
            "table_recovery_seconds",
            "The last recovery: from the assignment of partitions until they were taken up.",
            ("table",),
        )
        self.replayed = metrics.counter(
            "table_replayed_records_total", "Changelog records taken in, for recovery and to stand by.", ("table",)
        )
        self.partitions = metrics.gauge(
            "table_partitions_count", "Partitions held, as owner (active) or to take over (standby).", ("table", "role")
        )
