"""A breaker for one dependency: refuses calls at once while they would only fail.

Its states are drawn in `reliability.breaker_machine`. The decision is local and takes no lock, no await and no timer;
all of it runs on one event loop. `streams.shared_breaker` couples the breakers of several processes, from the outside.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from contracts.call_errors import BreakerOpen, CallTimeout
from reliability import breaker_machine
from reliability.breaker_machine import Machine, Mode, Now, State
from reliability.call import Place, Step
from reliability.call_window import FAILED, GOOD, SLOW, CountWindow, TimeWindow, Window
from reliability.fault import Classify, Health, by_type

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings_reliability import BreakerSettings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Why a caller found another state than the last one left.
_REASONS = {
    State.HALF_OPEN: "the wait is over",
    State.OPEN: "too few good probes in time",
    State.CLOSED: "the few probes that were called for were good",
}
_RESULTS = {
    State.CLOSED: "probes were good",
    State.OPEN: "probes were not good",
    State.HALF_OPEN: "a scout came back well",
}


class Outcome(StrEnum):
    """What became of a call, as counted. A slow call that failed is a failure."""

    SUCCESS = "success"
    FAILURE = "failure"
    SLOW = "slow"
    IGNORED = "ignored"
    """It failed in a way that says nothing of the dependency."""
    CANCELLED = "cancelled"
    NOT_PERMITTED = "not_permitted"


@dataclass(frozen=True)
class Change:
    """A change of state at `at_s` (monotonic seconds)."""

    name: str
    before: State
    after: State
    reason: str
    at_s: float


class Breaker:
    """One dependency's breaker.

    Use it as a layer of a Stack, or by itself: `await breaker.call(work)`, or around anything else with `acquire` and
    exactly one of `succeeded`, `failed` and `release`.
    """

    place = Place.BREAKER

    def __init__(
        self,
        name: str,
        rules: BreakerSettings,
        clock: Clock,
        changed: Callable[[Change], None],
        classify: Classify = by_type,
    ) -> None:
        self.name = name
        self.rules = rules
        self._clock = clock
        self._now_s = clock.monotonic_s
        self._changed = changed
        self.changes = dict.fromkeys(State, 0)
        self._succeeded = self._slow = self._failed = self._ignored = self._cancelled = self._refused = 0
        self._classify = classify
        self._slow_s = rules.slow_s
        self._window: Window = (
            CountWindow(rules.window_calls) if rules.window == "count" else TimeWindow(rules.window_s)
        )
        self._timed = rules.window == "time"
        self._machine = Machine(since_s=self._now_s())
        self._probe_alone_at_s = 0.0
        self._refused_at_s = float("-inf")
        self._own_opening = False
        self.set_mode(Mode(rules.mode))

    @property
    def state(self) -> State:
        """The state as of the last call; an OPEN whose wait is over is left by the next call only."""
        return self._machine.state

    @property
    def machine(self) -> Machine:
        """All of the state."""
        return self._machine

    @property
    def counts(self) -> dict[Outcome, int]:
        """What became of all calls so far."""
        return {
            Outcome.SUCCESS: self._succeeded,
            Outcome.SLOW: self._slow,
            Outcome.FAILURE: self._failed,
            Outcome.IGNORED: self._ignored,
            Outcome.CANCELLED: self._cancelled,
            Outcome.NOT_PERMITTED: self._refused,
        }

    def acquire(self) -> int:
        """A permit for one call, to be given back with exactly one of `succeeded`, `failed` and `release`.

        Raises:
            BreakerOpen: the call must not be made; it says in how many seconds to come back.
        """
        machine = self._machine
        if machine.state is State.CLOSED:
            return machine.generation
        now = self._now()
        machine, admitted = breaker_machine.admit(machine, self.rules, now, may_probe=now.s >= self._probe_alone_at_s)
        self._become(machine, _REASONS.get(machine.state, ""))
        if admitted:
            return machine.generation
        self._refused_at_s = now.s
        self._refused += 1
        raise BreakerOpen(self.name, self._why(machine), retry_after_s=breaker_machine.left_s(machine, now.s))

    def succeeded(self, permit: int, took_s: float) -> None:
        """The call of `permit` was answered after `took_s`."""
        if took_s < self._slow_s:
            self._succeeded += 1
            self._settle(permit, GOOD)
        else:
            self._slow += 1
            self._settle(permit, SLOW)

    def failed(self, permit: int, took_s: float, error: Exception) -> None:
        """The call of `permit` ended with `error` after `took_s`; whether that counts is for `classify` to say.

        A timeout that came sooner than `slow_s`, because the caller had no more time to give, says nothing.
        """
        health = self._classify(error).health
        hasty = isinstance(error, CallTimeout | TimeoutError) and took_s < self._slow_s
        if health is Health.UNKNOWN or hasty:
            self._ignored += 1
            self._become(breaker_machine.release(self._machine, permit, self._now_s()), "")
        elif health is Health.WELL:
            self.succeeded(permit, took_s)
        else:
            self._failed += 1
            self._settle(permit, FAILED | SLOW if took_s >= self._slow_s else FAILED)

    def release(self, permit: int) -> None:
        """The call of `permit` was given up by the caller and says nothing."""
        self._cancelled += 1
        self._become(breaker_machine.release(self._machine, permit, self._now_s()), "")

    async def call(self, work: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """What `work(*arguments)` answers; waits as long as it does.

        Raises:
            BreakerOpen: `work` was not called.
            Exception: whatever `work` raises.
        """
        permit = self.acquire()
        began_s = self._now_s()
        try:
            answer = await work(*arguments)
        except CancelledError:
            self.release(permit)
            raise
        except Exception as error:
            self.failed(permit, self._now_s() - began_s, error)
            raise
        except BaseException:
            self.release(permit)
            raise
        self.succeeded(permit, self._now_s() - began_s)
        return answer

    def around(self, step: Step) -> Step:
        """`step` guarded by this breaker."""
        return lambda call: self.call(step, call)

    def set_mode(self, mode: Mode) -> None:
        """Take an operator's mode; AUTO leaves a breaker that decides for itself as it is."""
        before = self._machine
        after = breaker_machine.with_mode(before, mode, self._now())
        self._become(after, f"mode {mode.value}")
        if after is not before:
            self._window.clear()

    # What the coupling of several processes needs; see streams.shared_breaker.

    def probe_alone_at(self, at_s: float) -> None:
        """Until `at_s` (monotonic) OPEN does not end by itself: whoever holds the lease probes, by `begin_probing`."""
        self._probe_alone_at_s = at_s

    @property
    def opened_itself(self) -> bool:
        """Whether it is open (or half open) because of its own calls."""
        return self._own_opening and self._machine.state in (State.OPEN, State.HALF_OPEN)

    @property
    def wants_probe(self) -> bool:
        """Whether it is open, a call might go ahead, and somebody was refused since."""
        machine = self._machine
        return machine.state is State.OPEN and breaker_machine.next_call_s(machine) <= self._refused_at_s

    def begin_probing(self, until_s: float, openings: int) -> None:
        """Give probes, with results due at `until_s`; `openings` in a row were seen by all."""
        machine = self._machine
        if machine.state is State.OPEN:
            machine = machine._replace(openings=max(openings, machine.openings))
            self._become(breaker_machine.half_open(machine, self._now(), until_s), "took the lease to probe for all")

    def follow_open(self) -> None:
        """Open because enough others have."""
        if self._machine.state is State.CLOSED:
            self._become(breaker_machine.opened(self._machine, self.rules, self._now()), "open in other processes")
            self._own_opening = False

    def follow_closed(self) -> None:
        """Close because the probes of another process were good."""
        self._become(breaker_machine.recovered(self._machine, self._now()), "another process' probes were good")

    def as_json(self) -> dict[str, object]:
        """The state for people; times in seconds."""
        machine, now_s = self._machine, self._now_s()
        self._window.look(now_s)
        calls = self._window.calls
        return {
            "name": self.name,
            "state": machine.state.value,
            "since_s": round(now_s - machine.since_s, 3),
            "retry_in_s": breaker_machine.left_s(machine, now_s),
            "openings_in_a_row": machine.openings,
            "window_calls": calls,
            "failure_ratio": round(self._window.failed / calls, 4) if calls else 0.0,
            "slow_ratio": round(self._window.slow / calls, 4) if calls else 0.0,
            "shared": self.rules.shared,
        }

    def _settle(self, permit: int, call: int) -> None:
        machine = self._machine
        if permit != machine.generation or machine.state is State.DISABLED:
            return
        if machine.state is State.HALF_OPEN or machine.state is State.OPEN:
            failed, slow = bool(call & FAILED), bool(call & SLOW)
            after = breaker_machine.probed(machine, self.rules, permit, self._now(), failed=failed, slow=slow)
            self._become(after, _RESULTS.get(after.state, ""))
            return
        window = self._window
        window.add(call, self._now_s() if self._timed else 0.0)
        if window.failed or window.slow:
            self._judge()

    def _judge(self) -> None:
        if breaker_machine.tripped(self.rules, self._window):
            after = breaker_machine.judged(self._machine, self.rules, self._window, self._now())
            w = self._window
            self._become(after, f"{w.failed} of {w.calls} calls failed, {w.slow} were slow")

    def _become(self, machine: Machine, reason: str) -> None:
        before, self._machine = self._machine, machine
        if machine.state is before.state:
            return
        if machine.state is State.OPEN:
            self._own_opening = True
        elif machine.state is State.CLOSED:
            self._own_opening = False
            # What led here says nothing of now: a closed breaker judges by calls made since.
            self._window.clear()
        self.changes[machine.state] += 1
        self._changed(Change(self.name, before.state, machine.state, reason, machine.since_s))

    def _now(self) -> Now:
        return Now(self._now_s(), self._clock.uniform(-1.0, 1.0))

    def _why(self, machine: Machine) -> str:
        if machine.state is State.HALF_OPEN:
            return f"half open, all {self.rules.probes} probes are under way"
        return "held open by an operator or breaker.mode" if machine.state is State.FORCED_OPEN else "breaker is open"
