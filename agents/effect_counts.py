"""What effect agents count. Names as in docs/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.metrics import Metrics


class EffectCounts:
    """The metrics of all effect agents of a worker; label `flow` is the agent."""

    def __init__(self, metrics: Metrics) -> None:
        self.calls = metrics.counter(
            "effect_calls_total",
            "Calls for records: done, retry (failed, comes again), refused (not made, comes again), dead.",
            ("flow", "result"),
        )
        self.seconds = metrics.histogram("effect_call_seconds", "How long calls for records took.", ("flow",))
        self.waiting = metrics.gauge(
            "effect_waiting_records",
            "Records that wait for a retry, behind one, or for their tenant's quota.",
            ("flow",),
        )
