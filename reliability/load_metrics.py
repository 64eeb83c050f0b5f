"""What limits, gates and the ladder count. Labels are few and closed: no tenant."""

from __future__ import annotations

from runtime.metrics import Metrics

# A check in memory takes a microsecond, one in Redis a millisecond, and none may take more than 25.
CHECK_BUCKETS_S = (0.00001, 0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1)


class LoadMetrics:
    """The metrics of load, made from the process' registry; one instance a process."""

    def __init__(self, metrics: Metrics) -> None:
        self.decisions = metrics.counter(
            "ratelimit_decisions_total",
            "Checks of rate limits: allow, deny; fallback_allow, fallback_deny: without Redis. `scope` is that of the "
            "limit which denied, else the first one asked.",
            ["scope", "decision"],
        )
        self.check_seconds = metrics.histogram(
            "ratelimit_check_seconds",
            "Time of a check; store: redis, or local (without Redis, the wait for it included).",
            ["store"],
            CHECK_BUCKETS_S,
        )
        self.width = metrics.gauge("concurrency_limit", "How many may run at once, as found so far.", ["name"])
        self.inflight = metrics.gauge("inflight", "How many run.", ["name"])
        self.shed = metrics.counter(
            "shed_total",
            "Turned away by a gate before any work: limit, queue_delay, deadline, level.",
            ["name", "priority", "reason"],
        )
        self.level = metrics.gauge(
            "degradation_level", "Level of degradation in force, 0 (normal) to 4 (read-only).", ["service"]
        )
        self.loop_lag = metrics.histogram(
            "event_loop_lag_seconds", "How much later than asked for the event loop comes; ten samples a second."
        )
