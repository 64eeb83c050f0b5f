"""All policies of a process by dependency: made from settings here, and shown at /v1/reliability.

One `Reliability` is made where the process is put together, and handed down. What it shows is what it made, and what
other parts (limiters, gates, the ladder) ask it to show.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reliability import dependency
from reliability.breaker_machine import Mode
from reliability.dependency import Dependency
from reliability.fault import Classify, by_type
from reliability.reliability_metrics import ReliabilityMetrics
from runtime.logs import get_logger

if TYPE_CHECKING:
    from reliability.breaker import Breaker, Change
    from reliability.call import Layer
    from runtime.clock import Clock
    from runtime.metrics import Metrics
    from runtime.settings import Settings

_log = get_logger(__name__)

CHANGES_KEPT = 50

Show = Callable[[], dict[str, Any]]


class Reliability:
    """The policies of one process. `process` names it where states of several are shown."""

    def __init__(self, settings: Settings, process: str, clock: Clock, metrics: Metrics) -> None:
        self.process = process
        self._metrics = ReliabilityMetrics(metrics)
        self._settings = settings
        self._clock = clock
        self._dependencies: dict[str, Dependency] = {}
        self._shown: dict[str, list[Show]] = {}
        self._changes: deque[dict[str, object]] = deque(maxlen=CHANGES_KEPT)
        self._listeners: list[Callable[[Change], None]] = []

    def dependency(self, name: str, classify: Classify = by_type, outer: Sequence[Layer] = ()) -> Dependency:
        """The policies of `name`, made on the first call; later calls get the same.

        Args:
            name: its name in the settings (`dependencies`), metrics and errors.
            classify: what its failures say.
            outer: layers for the places SHED and LIMIT.
        """
        if name not in self._dependencies:
            made = dependency.make(self._settings, name, self._clock, self._changed, classify, outer)
            self._dependencies[name] = made
            self._metrics.watched.append(made)
        return self._dependencies[name]

    @property
    def breakers(self) -> dict[str, Breaker]:
        """All breakers by name."""
        return {name: each.breaker for name, each in self._dependencies.items()}

    def show(self, kind: str, state: Show) -> None:
        """Let `state()` be shown under `kind` (a plural, such as "gates"); it is asked about once a second."""
        self._shown.setdefault(kind, []).append(state)

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` on each change of a breaker, on the way of the call that caused it."""
        self._listeners.append(listener)

    def as_json(self) -> dict[str, object]:
        """Everything, for people: times in seconds, `at` in Unix seconds."""
        parts: dict[str, object] = {kind: [state() for state in states] for kind, states in self._shown.items()}
        everything = self._dependencies.values()
        return {
            "process": self.process,
            "at": round(self._clock.wall_s(), 3),
            "breakers": [each.breaker.as_json() for each in everything],
            "retries": [each.retry.as_json() for each in everything],
            "bulkheads": [each.bulkhead.as_json() for each in everything if each.bulkhead.rules.calls],
            "changes": list(self._changes),
            **parts,
        }

    def override(self, modes: dict[str, Mode]) -> None:
        """Take operators' modes by breaker name; a breaker that is not named goes back to its settings' mode."""
        for name, each in self._dependencies.items():
            each.breaker.set_mode(modes.get(name, Mode(each.breaker.rules.mode)))

    def _changed(self, change: Change) -> None:
        """A breaker changed its state: an event in the log and on the page."""
        at_s = round(self._clock.wall_s(), 3)
        said = {"name": change.name, "before": change.before.value, "after": change.after.value}
        self._changes.append({**said, "reason": change.reason, "at": at_s})
        _log.warning("breaker changed", **said, reason=change.reason)
        for listener in self._listeners:
            listener(change)
