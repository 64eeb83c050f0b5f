"""The states of a breaker, and how it gets from one to the next. Pure: state and input in, state out.

                  too many of the window failed or were slow
    +--------+ ---------------------------------------------> +------+ <------------------+
    | CLOSED |                                                | OPEN |                    |
    +--------+ <------------------+                           +------+                    |
        ^     all probes back,    |                               | the wait is over,     |
        |     few enough bad      |     +-----------+             | and somebody calls    |
        |                         +---- | HALF_OPEN | <-----------+                       |
        | mode auto                     +-----------+ ------------------------------------+
        |                               too many failed or were slow, or one has no result in half_open_max_s
    +-------------+----------+--------------+
    | FORCED_OPEN | DISABLED | METRICS_ONLY |   by settings or an operator, from any state
    +-------------+----------+--------------+

Every change of state makes a new *generation*. A permit carries the generation that gave it; what is reported under an
older one is dropped, so that a call that began before the breaker opened can neither close nor reopen it when it ends.

OPEN waits open_s, then twice as long with each opening in a row. An opening that comes sooner after closing than the
last wait was long counts as in a row: a dependency that falls over again under full load is left alone for longer.
So that a long wait does not outlast the outage by as much again, one call every scout_s goes ahead while it lasts, a
*scout*: a bad one changes nothing, a good one is the first probe of HALF_OPEN.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from reliability.backoff import ceiling_s

if TYPE_CHECKING:
    from reliability.call_window import Window
    from runtime.settings_reliability import BreakerSettings


class State(StrEnum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


class Mode(StrEnum):
    """What an operator wants of a breaker."""

    AUTO = "auto"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


class Now(NamedTuple):
    """A moment in monotonic seconds, and a random number in [-1, 1] for the wait that may begin at it."""

    s: float
    jitter: float


class Machine(NamedTuple):
    """A breaker's state."""

    state: State = State.CLOSED
    generation: int = 1
    since_s: float = 0.0
    until_s: float = 0.0
    """OPEN: when probing may begin. HALF_OPEN: when results are overdue."""
    scout_s: float = 0.0
    """OPEN: when the next scout may go."""
    openings: int = 0
    """In a row."""
    wait_s: float = 0.0
    """The last wait."""
    given: int = 0
    """HALF_OPEN: probes that were let through."""
    back: int = 0
    """Of these, how many have a result."""
    failed: int = 0
    slow: int = 0


def with_mode(machine: Machine, mode: Mode, now: Now) -> Machine:
    """The state under an operator's mode; back in auto it begins closed. The same machine if nothing changes."""
    if mode is Mode.AUTO:
        overridden = machine.state in (State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY)
        return _closed(machine._replace(openings=0), now) if overridden else machine
    state = State(mode.value)
    return machine if machine.state is state else Machine(state, machine.generation + 1, now.s)


def admit(machine: Machine, rules: BreakerSettings, now: Now, *, may_probe: bool) -> tuple[Machine, bool]:
    """The state after somebody asked to call, and whether it may.

    Args:
        machine: the state before.
        rules: the breaker's settings.
        now: the moment.
        may_probe: whether OPEN may end here; when shared, only the holder of the lease begins (`half_open`).
    """
    if machine.state in (State.CLOSED, State.DISABLED, State.METRICS_ONLY):
        return machine, True
    if machine.state is State.OPEN and may_probe and now.s >= next_call_s(machine):
        if now.s < machine.until_s:
            # Should it never come back, the next one goes when a probe would be overdue.
            return machine._replace(scout_s=now.s + rules.half_open_max_s), True
        machine = half_open(machine, now, now.s + rules.half_open_max_s)
    elif machine.state is State.HALF_OPEN and now.s >= machine.until_s:
        machine = _overdue(machine, rules, now, may_probe=may_probe)
    if machine.state is State.CLOSED:
        return machine, True
    if machine.state is not State.HALF_OPEN or machine.given >= rules.probes:
        return machine, False
    return machine._replace(given=machine.given + 1), True


def next_call_s(machine: Machine) -> float:
    """OPEN: when the next call may be let through, if anybody wants one."""
    return min(machine.until_s, machine.scout_s)


def left_s(machine: Machine, now_s: float) -> float | None:
    """OPEN: seconds until then, to the millisecond; None in any other state."""
    return round(max(0.0, next_call_s(machine) - now_s), 3) if machine.state is State.OPEN else None


def release(machine: Machine, generation: int, now_s: float) -> Machine:
    """The state after a call ended that says nothing (cancelled, or our own fault): its probe can be given again."""
    if generation != machine.generation:
        return machine
    if machine.state is State.OPEN:
        return machine._replace(scout_s=now_s)
    return machine._replace(given=machine.given - 1) if machine.state is State.HALF_OPEN else machine


def probed(machine: Machine, rules: BreakerSettings, generation: int, now: Now, *, failed: bool, slow: bool) -> Machine:
    """The state after the result of a probe, or of a scout: under an OPEN generation nobody else has a permit."""
    if machine.state not in (State.OPEN, State.HALF_OPEN) or generation != machine.generation:
        return machine
    if machine.state is State.OPEN:
        if failed or slow:
            return machine._replace(scout_s=_next_scout_s(rules, now))
        machine = half_open(machine, now, now.s + rules.half_open_max_s)._replace(given=1)
    machine = machine._replace(back=machine.back + 1, failed=machine.failed + failed, slow=machine.slow + slow)
    # Judged against all probes: as soon as the rest cannot make it good any more, or once all are back.
    if machine.failed >= rules.failure_ratio * rules.probes or machine.slow >= rules.slow_ratio * rules.probes:
        return opened(machine, rules, now)
    return _closed(machine, now) if machine.back >= rules.probes else machine


def judged(machine: Machine, rules: BreakerSettings, window: Window, now: Now) -> Machine:
    """The state after the window of a closed breaker got another call."""
    if machine.state is not State.CLOSED or not tripped(rules, window):
        return machine
    return opened(machine, rules, now)


def tripped(rules: BreakerSettings, window: Window) -> bool:
    """Whether enough calls are in the window, and too many of them failed or were slow."""
    calls = window.calls
    return calls >= rules.min_calls and (
        window.failed >= rules.failure_ratio * calls or window.slow >= rules.slow_ratio * calls
    )


def opened(machine: Machine, rules: BreakerSettings, now: Now) -> Machine:
    """OPEN, for longer with each opening in a row."""
    again = machine.state is not State.CLOSED or now.s - machine.since_s < machine.wait_s
    openings = machine.openings + 1 if again else 1
    wait_s = ceiling_s(openings - 1, base_s=rules.open_s, cap_s=rules.open_max_s)
    wait_s *= 1 + rules.open_jitter_ratio * now.jitter
    scout_s = _next_scout_s(rules, now)
    return Machine(State.OPEN, machine.generation + 1, now.s, now.s + wait_s, scout_s, openings, wait_s)


def half_open(machine: Machine, now: Now, until_s: float) -> Machine:
    """HALF_OPEN with all probes to give; results are overdue at `until_s`."""
    return Machine(
        State.HALF_OPEN, machine.generation + 1, now.s, until_s, openings=machine.openings, wait_s=machine.wait_s
    )


def recovered(machine: Machine, now: Now) -> Machine:
    """The state after somebody else's probes were good: CLOSED, unless an operator decided otherwise."""
    return _closed(machine, now) if machine.state in (State.OPEN, State.HALF_OPEN) else machine


def _overdue(machine: Machine, rules: BreakerSettings, now: Now, *, may_probe: bool) -> Machine:
    """HALF_OPEN after its time: a probe without a result has failed; else it is judged by those that came back."""
    back = machine.back
    if machine.given > back:
        return opened(machine, rules, now)
    if back:
        bad = machine.failed >= rules.failure_ratio * back or machine.slow >= rules.slow_ratio * back
        return opened(machine, rules, now) if bad else _closed(machine, now)
    if may_probe:
        return machine._replace(until_s=now.s + rules.half_open_max_s)
    # The lease is over with it; somebody has to take it anew.
    return machine._replace(
        state=State.OPEN, generation=machine.generation + 1, since_s=now.s, until_s=now.s, scout_s=now.s
    )


def _next_scout_s(rules: BreakerSettings, now: Now) -> float:
    """The jitter makes it earlier only: scout_s bounds how long a recovery goes unseen."""
    return now.s + rules.scout_s * (1 - rules.open_jitter_ratio * abs(now.jitter)) if rules.scout_s else math.inf


def _closed(machine: Machine, now: Now) -> Machine:
    return Machine(State.CLOSED, machine.generation + 1, now.s, openings=machine.openings, wait_s=machine.wait_s)
