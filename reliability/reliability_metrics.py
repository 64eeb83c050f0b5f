"""What the policies around calls tell of themselves on /metrics. Label `name` is the dependency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reliability.breaker import Outcome
from reliability.breaker_machine import State

if TYPE_CHECKING:
    from reliability.breaker import Change
    from reliability.retry import Verdict
    from runtime.metrics import Counter, Gauge, Metrics


class ReliabilityMetrics:
    """Observes breakers, retries and bulkheads of a process."""

    def __init__(self, metrics: Metrics) -> None:
        self.state = metrics.gauge("breaker_state", "1 for the state that a breaker is in.", ("name", "state"))
        self.calls = metrics.counter(
            "breaker_calls_total",
            "Calls that a breaker saw: success, slow, failure, ignored (says nothing), cancelled, not_permitted.",
            ("name", "outcome"),
        )
        self.transitions = metrics.counter("breaker_transitions_total", "Changes of state.", ("name", "to"))
        self.retries = metrics.counter(
            "retries_total",
            "Failures that might be retried: scheduled, recovered (a retry succeeded), exhausted, not_repeatable, "
            "budget_denied, deadline_denied.",
            ("name", "outcome"),
        )
        self.tokens = metrics.gauge("retry_budget_tokens", "What the quota of retries holds.", ("name",))
        self.busy = metrics.gauge("bulkhead_busy_calls", "Calls under way.", ("name",))
        self.waiting = metrics.gauge("bulkhead_waiting_calls", "Calls that wait for a place.", ("name",))
        self.refused = metrics.counter("bulkhead_refused_total", "Calls refused for want of a place.", ("name",))
        # Looking up a labelled child takes longer than counting.
        self._outcomes: dict[tuple[str, Outcome], Counter] = {}
        self._places: dict[str, tuple[Gauge, Gauge]] = {}

    def add(self, name: str) -> None:
        """Make a dependency's children; all outcomes begin at 0, since a rate needs a beginning."""
        for outcome in Outcome:
            self._outcomes[name, outcome] = self.calls.labels(name, outcome.value)
        self._places[name] = (self.busy.labels(name), self.waiting.labels(name))
        self.refused.labels(name)

    def show_state(self, name: str, state: State) -> None:
        """Show the state of a breaker."""
        for each in State:
            self.state.labels(name, each.value).set(each is state)

    def counted(self, name: str, outcome: Outcome) -> None:
        """A breaker saw a call."""
        self._outcomes[name, outcome].inc()

    def changed(self, change: Change) -> None:
        """A breaker changed its state."""
        self.transitions.labels(change.name, change.after.value).inc()
        self.show_state(change.name, change.after)

    def retry(self, name: str, verdict: Verdict) -> None:
        """A failure was judged, or a retry succeeded."""
        self.retries.labels(name, verdict.value).inc()

    def bulkhead(self, name: str, busy: int, waiting: int) -> None:
        """A bulkhead's places."""
        taken, queued = self._places[name]
        taken.set(busy)
        queued.set(waiting)

    def bulkhead_refused(self, name: str) -> None:
        """A bulkhead refused a call."""
        self.refused.labels(name).inc()
