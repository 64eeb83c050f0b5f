"""What the policies around calls tell of themselves on /metrics. Label `name` is the dependency.

All of it is read when asked for: on the way of a call the policies only count up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from reliability.breaker_machine import State

if TYPE_CHECKING:
    from reliability.dependency import Dependency
    from runtime.metrics import Metrics, Readings


class ReliabilityMetrics:
    """The metrics of the dependencies that are in `watched`."""

    def __init__(self, metrics: Metrics) -> None:
        self.watched: list[Dependency] = []
        self._breakers(metrics)
        self._retries(metrics)
        self._bulkheads(metrics)

    def _breakers(self, metrics: Metrics) -> None:
        metrics.read_gauge(
            "breaker_state", "1 for the state that a breaker is in.", ("name", "state"), self._of(_states)
        )
        metrics.read_counter(
            "breaker_calls_total",
            "Calls that a breaker saw: success, slow, failure, ignored (says nothing), cancelled, not_permitted.",
            ("name", "outcome"),
            self._of(lambda each: ((outcome.value, n) for outcome, n in each.breaker.counts.items())),
        )
        metrics.read_counter(
            "breaker_transitions_total",
            "Changes of state.",
            ("name", "to"),
            self._of(lambda each: ((state.value, n) for state, n in each.breaker.changes.items())),
        )

    def _retries(self, metrics: Metrics) -> None:
        metrics.read_counter(
            "retries_total",
            "Failures that might be retried: scheduled, permanent, not_repeatable, exhausted, deadline_denied, "
            "budget_denied; recovered: a retry succeeded.",
            ("name", "outcome"),
            self._of(lambda each: ((verdict.value, n) for verdict, n in each.retry.counts.items())),
        )
        metrics.read_gauge(
            "retry_budget_tokens",
            "What the quota of retries holds.",
            ("name",),
            self._one(lambda each: each.retry.quota.tokens),
        )

    def _bulkheads(self, metrics: Metrics) -> None:
        name = ("name",)
        metrics.read_gauge("bulkhead_busy_calls", "Calls under way.", name, self._one(lambda each: each.bulkhead.busy))
        metrics.read_gauge(
            "bulkhead_waiting_calls",
            "Calls that wait for a place.",
            name,
            self._one(lambda each: each.bulkhead.waiting),
        )
        metrics.read_counter(
            "bulkhead_refused_total",
            "Calls refused for want of a place.",
            name,
            self._one(lambda each: each.bulkhead.refused),
        )

    def _of(self, read: Callable[[Dependency], Iterator[tuple[str, float]]]) -> Callable[[], Readings]:
        """Readings of every dependency, each under a second label."""
        return lambda: [((each.name, label), value) for each in self.watched for label, value in read(each)]

    def _one(self, read: Callable[[Dependency], float]) -> Callable[[], Readings]:
        """One reading of every dependency."""
        return lambda: [((each.name,), read(each)) for each in self.watched]


def _states(each: Dependency) -> Iterator[tuple[str, float]]:
    return ((state.value, float(state is each.breaker.state)) for state in State)
