"""Lets work in at the width that its dependency can take, the most important first, and turns the rest away early.

Where it stands: around a handler or a call (`async with gate.admitted(priority)`), before breakers and retries. The
decisions are in `reliability.adaptive` (how many) and `reliability.shed` (who); this holds the futures of those that
wait. It lives on one event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Self

from contracts.errors import Shed
from reliability.adaptive import Rules, Width, Window, next_width
from reliability.call import Priority
from reliability.shed import Line, LineRules, Reason, Ticket

if TYPE_CHECKING:
    from types import TracebackType

    from reliability.load_metrics import LoadMetrics
    from runtime.clock import Clock
    from runtime.settings import GateSettings


def everything() -> Priority:
    """The least important work that passes, when no level of degradation says otherwise."""
    return Priority.BACKGROUND


class End(Enum):
    """How work ended, as far as it says what its dependency can take."""

    DONE = "done"
    REFUSED = "refused"
    """Turned away by the dependency, or timed out."""
    CUT = "cut"
    """Cancelled. At its deadline, that is a timeout; before, the caller left, which says nothing."""
    FAILED = "failed"
    """Taken for a quick answer, a failure would make every real one look slow."""


class Gate:
    """One gate; `name` is its label in metrics and errors, `lets` says what passes at the level in force."""

    def __init__(
        self,
        name: str,
        settings: GateSettings,
        clock: Clock,
        metrics: LoadMetrics,
        lets: Callable[[], Priority] = everything,
    ) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._lets = lets
        self._rules = Rules(settings.least, settings.most, settings.tolerance, settings.smoothing)
        self._line = Line(self._line_rules(0.0))
        self._width = Width(float(settings.initial))
        self._window = Window(clock.monotonic_s())
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._arrived = 0
        self._turned_away = 0
        metrics.width.labels(name).set(self._width.whole(self._rules))

    def admitted(self, priority: Priority, deadline_s: float = math.inf) -> Admission:
        """A context to do the work in. Entering waits for a place: at most gate.interval_ms, never past the deadline.

        Args:
            priority: what goes first.
            deadline_s: when nobody waits for the answer any more, in seconds of the monotonic clock.

        Raises:
            Shed: turned away, before anything was done.
        """
        return Admission(self, priority, deadline_s)

    def taken(self) -> tuple[int, int]:
        """How many arrived since the last call, and how many of them were turned away; for the ladder.

        What the level in force turned away counts as neither: it would hold that level for as long as anybody asks.
        """
        counts = self._arrived, self._turned_away
        self._arrived = self._turned_away = 0
        return counts

    def state(self) -> dict[str, object]:
        """What it is doing, as JSON: width, unloaded duration, and for each priority who runs and who waits."""
        baseline_s = self._width.baseline_s
        return {
            "width": self._width.whole(self._rules),
            "unloaded_ms": None if baseline_s is None else round(1000 * baseline_s, 3),
            "lines": [{"priority": n, "running": r, "waiting": w} for n, r, w in self._line.counts()],
        }

    async def enter(self, priority: Priority, deadline_s: float) -> Ticket:
        """A ticket that runs; `done` has to be called with it. Use `admitted`, which does."""
        if priority > self._lets():
            raise self._refused(priority, Reason.LEVEL)
        self._arrived += 1
        ticket, evicted = self._line.arrive(
            priority, self._clock.monotonic_s(), deadline_s, self._width.whole(self._rules)
        )
        if evicted is not None:
            self._wake(evicted)
        if not ticket.running and ticket.turned_away is None:
            await self._wait(ticket)
        if ticket.turned_away is not None:
            self._turned_away += 1
            raise self._refused(priority, ticket.turned_away)
        self._metrics.inflight.labels(self.name).set(self._line.running)
        return ticket

    def done(self, ticket: Ticket, end: End, began_s: float) -> None:
        """The work that began at `began_s` (monotonic seconds) came to an end."""
        now_s, running = self._clock.monotonic_s(), self._line.running
        known_s, duration_s = self._width.baseline_s, now_s - began_s
        if end is End.CUT and now_s >= ticket.deadline_s and (known_s is None or duration_s > known_s):
            end = End.REFUSED  # too late, and not only because it had waited here
        if end in (End.DONE, End.REFUSED):
            self._window.add(duration_s, running, refused=end is End.REFUSED)
            if self._window.full(now_s, self._width):
                self._width = next_width(self._width, self._window, self._rules)
                self._window = Window(now_s)
                self._line.rules = self._line_rules(self._width.baseline_s or 0.0)
                self._metrics.width.labels(self.name).set(self._width.whole(self._rules))
        self._line.leave(ticket)
        self._admit(now_s)
        self._metrics.inflight.labels(self.name).set(self._line.running)

    async def _wait(self, ticket: Ticket) -> None:
        """Until the ticket runs or was turned away."""
        loop = asyncio.get_running_loop()
        future = self._waiting[ticket] = loop.create_future()
        # Whoever cannot be reached by a wake-up (everything hangs behind the gate) leaves by the clock.
        rules = self._line.rules
        left_s = min(rules.interval_s, ticket.deadline_s - rules.needs_s - self._clock.monotonic_s())
        timer = loop.call_later(max(0.0, left_s), self._give_up, ticket)
        try:
            await future
        except asyncio.CancelledError:
            self._waiting.pop(ticket, None)
            self._line.leave(ticket)  # it may have got its place in this very moment: the next one gets it
            self._admit(self._clock.monotonic_s())
            raise
        finally:
            timer.cancel()

    def _give_up(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self._line.leave(ticket)
            late = ticket.deadline_s <= self._clock.monotonic_s() + self._line.rules.needs_s
            ticket.turned_away = Reason.DEADLINE if late else Reason.QUEUE_DELAY
            self._wake(ticket)

    def _admit(self, now_s: float) -> None:
        for ticket in self._line.next(now_s, self._width.whole(self._rules)):
            self._wake(ticket)

    def _wake(self, ticket: Ticket) -> None:
        future = self._waiting.pop(ticket, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _refused(self, priority: Priority, reason: Reason) -> Shed:
        self._metrics.shed.labels(self.name, priority.name.lower(), reason.value).inc()
        return Shed(self.name, priority.name.lower(), reason.value, self._settings.retry_after_s)

    def _line_rules(self, unloaded_s: float) -> LineRules:
        """Waiting as long as the work takes is no standing queue, however slow the work is."""
        target_s = max(self._settings.target_ms / 1000, unloaded_s)
        interval_s = max(self._settings.interval_ms / 1000, 2 * target_s)
        return LineRules(target_s, interval_s, self._settings.waiting, self._settings.shares, unloaded_s)

    def now_s(self) -> float:
        """The gate's clock, in monotonic seconds."""
        return self._clock.monotonic_s()


class Admission:
    """The context of one piece of work."""

    __slots__ = ("_began_s", "_deadline_s", "_gate", "_overloaded", "_priority", "_ticket")

    def __init__(self, gate: Gate, priority: Priority, deadline_s: float) -> None:
        self._gate = gate
        self._priority = priority
        self._deadline_s = deadline_s
        self._overloaded = False
        self._began_s = 0.0
        self._ticket: Ticket | None = None

    def overloaded(self) -> None:
        """Say that the dependency turned the work away (429, 503), which a timeout says by itself."""
        self._overloaded = True

    async def __aenter__(self) -> Self:
        self._ticket = await self._gate.enter(self._priority, self._deadline_s)
        self._began_s = self._gate.now_s()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del error, trace
        if self._ticket is None:
            return
        end = End.DONE
        if self._overloaded or (kind is not None and issubclass(kind, TimeoutError)):
            end = End.REFUSED
        elif kind is not None:
            end = End.CUT if issubclass(kind, asyncio.CancelledError) else End.FAILED
        self._gate.done(self._ticket, end, self._began_s)
