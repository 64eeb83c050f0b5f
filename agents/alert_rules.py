"""When a tool's latency is an alert, and when it is over. Pure: state and a reading in, state and a transition out.

            value > threshold              breach lasted raise_after
    OK ------------------------> PENDING -----------------------------> FIRING
     ^                             |                                    |    ^
     |     value <= threshold      |                  value < clear     |    |  value >= clear
     +-----------------------------+                                    v    |
     +---------------------------------------------------------------- CLEARING
                          recovery lasted clear_after

`clear` is threshold * clear_ratio, so that a value which swings around the threshold does not flap. A reading of None
(too few calls to tell) keeps the state, until the caller says that the tool has been silent for long: then a firing
alert is resolved, since nobody is slowed down by a tool that nobody calls.

A state row, MessagePack:  key ["al", tenant, tool]
                           value [format, position, announced, phase, since ms, started ms, raised ms, raised value ms,
                                  value ms, transitions]
`position` is the highest source offset folded when the row changed. `transitions` counts RAISED and RESOLVED (odd:
raised last), `announced` how many of them have been pushed and acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum

import msgspec

from contracts.names import TenantId
from tables.formats import check_format

KIND = "al"
FORMAT = 1
# Keys of these rows are from the first to below the second: an array of three, the kind, then the tenant's text.
KEYS = (b"\x93\xa2al", b"\x93\xa2am")


class Phase(IntEnum):
    """Where an alert is; the numbers are in stored rows and never change."""

    OK = 0
    PENDING = 1
    FIRING = 2
    CLEARING = 3


class Transition(IntEnum):
    """What people are told."""

    RAISED = 1
    RESOLVED = 2


@dataclass(frozen=True)
class Rule:
    """The limits, in milliseconds of event time and of latency."""

    threshold_ms: float
    clear_ms: float
    raise_after_ms: int
    clear_after_ms: int


@dataclass(frozen=True)
class AlertState:
    """One alert's row; times are event time.

    since_ms: the last change of phase; started_ms: when the breach began; raised_ms: when it was raised.
    raised_value_ms, value_ms: the readings at the last raise and at the last transition.
    """

    position: int = -1
    announced: int = 0
    phase: Phase = Phase.OK
    since_ms: int = 0
    started_ms: int = 0
    raised_ms: int = 0
    raised_value_ms: float = 0.0
    value_ms: float = 0.0
    transitions: int = 0

    @property
    def last(self) -> Transition:
        """The last transition; only meaningful once there was one."""
        return Transition.RAISED if self.transitions % 2 else Transition.RESOLVED

    def untold(self) -> tuple[Transition, ...]:
        """Transitions of this alert that may not have been pushed yet, in order: a resolve brings its raise along."""
        count = self.transitions - self.announced
        if count <= 0:
            return ()
        if self.last is Transition.RESOLVED and count > 1:
            return (Transition.RAISED, Transition.RESOLVED)
        return (self.last,)


_FIELDS = len(fields(AlertState))


def step(state: AlertState, rule: Rule, *, value_ms: float | None, at_ms: int, silent: bool = False) -> AlertState:
    """The state after one reading at event time `at_ms`; the same object when nothing changed.

    A reading older than the state's last change is ignored.
    """
    if at_ms < state.since_ms:
        return state
    if value_ms is not None:
        return _moved(state, rule, value_ms, at_ms)
    if not silent:
        return state
    if state.phase in (Phase.FIRING, Phase.CLEARING):
        return _transition(state, Phase.OK, at_ms, state.value_ms)
    return replace(state, phase=Phase.OK, since_ms=at_ms) if state.phase is Phase.PENDING else state


def due_ms(state: AlertState, rule: Rule, at_ms: int) -> int | None:
    """The event time after `at_ms` at which the same reading would change the state; None: it never will."""
    due = state.since_ms
    if at_ms >= due and state.phase is Phase.PENDING:
        due += rule.raise_after_ms
    elif at_ms >= due and state.phase is Phase.CLEARING:
        due += rule.clear_after_ms
    return due if due > at_ms else None


def _moved(state: AlertState, rule: Rule, value_ms: float, at_ms: int) -> AlertState:  # noqa: PLR0911  one an arrow
    lasted_ms = at_ms - state.since_ms
    match state.phase:
        case Phase.OK if value_ms > rule.threshold_ms:
            pending = replace(state, phase=Phase.PENDING, since_ms=at_ms, started_ms=at_ms)
            return _moved(pending, rule, value_ms, at_ms)
        case Phase.PENDING if value_ms <= rule.threshold_ms:
            return replace(state, phase=Phase.OK, since_ms=at_ms)
        case Phase.PENDING if lasted_ms >= rule.raise_after_ms:
            raised = replace(state, raised_ms=at_ms, raised_value_ms=value_ms)
            return _transition(raised, Phase.FIRING, at_ms, value_ms)
        case Phase.FIRING if value_ms < rule.clear_ms:
            clearing = replace(state, phase=Phase.CLEARING, since_ms=at_ms)
            return _moved(clearing, rule, value_ms, at_ms)
        case Phase.CLEARING if value_ms >= rule.clear_ms:
            return replace(state, phase=Phase.FIRING, since_ms=at_ms)
        case Phase.CLEARING if lasted_ms >= rule.clear_after_ms:
            return _transition(state, Phase.OK, at_ms, value_ms)
        case _:
            return state


def _transition(state: AlertState, phase: Phase, at_ms: int, value_ms: float) -> AlertState:
    return replace(state, phase=phase, since_ms=at_ms, value_ms=value_ms, transitions=state.transitions + 1)


def encode_key(tenant_id: TenantId, tool: str) -> bytes:
    """The state row's key."""
    return msgspec.msgpack.encode((KIND, tenant_id, tool))


def decode_key(raw: bytes) -> tuple[TenantId, str]:
    """Tenant and tool of a key within KEYS."""
    _kind, tenant, tool = msgspec.msgpack.decode(raw)
    return TenantId(tenant), tool


def encode(state: AlertState) -> bytes:
    """The state row's value."""
    return msgspec.msgpack.encode(
        (
            FORMAT,
            state.position,
            state.announced,
            state.phase,
            state.since_ms,
            state.started_ms,
            state.raised_ms,
            state.raised_value_ms,
            state.value_ms,
            state.transitions,
        )
    )


def decode(raw: bytes) -> AlertState:
    """The state.

    Raises:
        ValueError: the row was written by a newer Headrace.
    """
    version, *held = msgspec.msgpack.decode(raw)
    check_format("an alert row", version, FORMAT)
    position, announced, phase, *rest = held
    # A newer release may have appended fields.
    return AlertState(position, announced, Phase(phase), *rest[: _FIELDS - 3])
