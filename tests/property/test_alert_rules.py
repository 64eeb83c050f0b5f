"""The alert's state machine: it alternates, waits out its delays and survives its encoding, for any readings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.alert_rules import AlertState, Phase, Rule, Transition, decode, encode, step

Steps = list[tuple[int, float | None, bool]]
RULE = Rule(threshold_ms=1000, clear_ms=800, raise_after_ms=2000, clear_after_ms=5000)

readings = st.lists(
    st.tuples(st.integers(0, 3000), st.one_of(st.none(), st.floats(0, 3000)), st.booleans()), max_size=80
)


def run(steps: Steps) -> list[tuple[int, Transition, AlertState]]:
    state, at_ms, told = AlertState(), 1_000_000, []
    for gap_ms, value, silent in steps:
        at_ms += gap_ms
        after = step(state, RULE, value_ms=value, at_ms=at_ms, silent=silent)
        assert after.transitions - state.transitions in (0, 1)
        if after.transitions > state.transitions:
            told.append((at_ms, after.last, after))
            assert after.untold()[-1] is after.last
        assert decode(encode(after)) == after
        state = after
    return told


@given(readings)
def test_raised_and_resolved_alternate_starting_with_raised(steps: Steps):
    told = [transition for _, transition, _ in run(steps)]
    assert told == [Transition.RAISED, Transition.RESOLVED] * (len(told) // 2) + [Transition.RAISED] * (len(told) % 2)


@given(readings)
def test_an_alert_is_raised_only_above_the_threshold_and_after_its_delay(steps: Steps):
    for at_ms, transition, state in run(steps):
        if transition is Transition.RAISED:
            assert state.value_ms > RULE.threshold_ms
            assert at_ms - state.started_ms >= RULE.raise_after_ms


def test_a_value_between_clear_and_threshold_keeps_a_firing_alert():
    state = AlertState(phase=Phase.FIRING, since_ms=0, transitions=1)
    for at_ms in range(1000, 60_000, 1000):
        state = step(state, RULE, value_ms=900.0, at_ms=at_ms)
    assert state.phase is Phase.FIRING


def test_a_firing_alert_of_a_tool_nobody_calls_is_resolved():
    state = AlertState(phase=Phase.FIRING, since_ms=0, transitions=1)
    assert step(state, RULE, value_ms=None, at_ms=1000).phase is Phase.FIRING
    assert step(state, RULE, value_ms=None, at_ms=1000, silent=True).last is Transition.RESOLVED


def test_a_reading_older_than_the_last_change_is_ignored():
    state = AlertState(phase=Phase.FIRING, since_ms=5000, transitions=1)
    assert step(state, RULE, value_ms=1.0, at_ms=4999) is state
