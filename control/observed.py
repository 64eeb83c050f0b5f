"""What the control process counts beside the requeuer."""

from __future__ import annotations

from runtime.metrics import Metrics


class ControlMetrics:
    """The API's metrics, and those of what it does by itself, in one registry."""

    def __init__(self, metrics: Metrics) -> None:
        self.auth_failures = metrics.counter("control_auth_failures_total", "Requests refused, by reason.", ["reason"])
        self.requests = metrics.counter(
            "control_requests_total", "Answers, by method and status.", ["method", "status"]
        )
        self.failures = metrics.counter("control_failures_total", "Looks of housekeeping that failed by a mistake.")
        self.ruled = metrics.counter("dlq_ruled_total", "Letters requeued by a rule, by error class.", ["reason"])
        self.purged = metrics.counter("dlq_purged_total", "Letters purged because they were closed long ago.")
