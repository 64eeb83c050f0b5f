from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reliability.call import Priority
from reliability.ladder import (
    PASSES,
    TURNED_OFF_AT,
    Feature,
    LadderRules,
    Level,
    Override,
    Signal,
    Standing,
    allowed,
    in_force,
    moved,
)

RULES = LadderRules(up_after_s=2.0, down_after_s=30.0, clear_ratio=0.7, automatic_most=Level.ESSENTIAL)
looks = st.lists(
    st.tuples(
        st.floats(0, 10),
        st.lists(st.builds(Signal, st.sampled_from("abc"), st.floats(0, 3), st.just(1.0), st.sampled_from(Level))),
    ),
    max_size=60,
)


def pressed(value: float, most: Level = Level.READ_ONLY) -> list[Signal]:
    return [Signal("shed", value, 1.0, most)]


def after(standing: Standing, value: float, seconds: float, *, start_s: float, most: Level = Level.READ_ONLY):
    """Where it stands after looking every half second for so long."""
    for step in range(int(seconds * 2) + 1):
        standing = moved(standing, pressed(value, most), start_s + step / 2, RULES)
    return standing


@given(looks)
def test_each_look_moves_one_step_at_most_and_never_beyond_what_signals_and_settings_allow(
    seen: list[tuple[float, list[Signal]]],
):
    standing, now_s, highest = Standing(), 0.0, Level.NORMAL
    for pause_s, signals in seen:
        now_s += pause_s
        before, standing = standing.level, moved(standing, signals, now_s, RULES)
        highest = max([highest, *(each.most for each in signals if each.ratio >= 1)])
        assert abs(standing.level - before) <= 1
        assert standing.level <= min(highest, RULES.automatic_most)


@given(looks)
def test_two_steps_up_are_never_nearer_than_the_time_up_nor_two_down_than_the_time_down(
    seen: list[tuple[float, list[Signal]]],
):
    standing, now_s, moves = Standing(), 0.0, [(0.0, 0)]
    for pause_s, signals in seen:
        now_s += pause_s
        before, standing = standing.level, moved(standing, signals, now_s, RULES)
        if standing.level != before:
            moves.append((now_s, standing.level - before))
    for (earlier_s, _), (later_s, way) in pairwise(moves):
        assert later_s - earlier_s >= (RULES.up_after_s if way > 0 else RULES.down_after_s)


def test_pressure_climbs_every_two_seconds_and_calm_comes_down_every_thirty():
    standing = after(Standing(), 1.5, 1.5, start_s=0)
    assert standing.level == Level.NORMAL
    standing = after(Standing(), 1.5, 2, start_s=0)
    assert (standing.level, standing.cause) == (Level.NO_BACKGROUND, "shed")
    assert after(Standing(), 1.5, 60, start_s=0).level == Level.ESSENTIAL
    top = Standing(Level.ESSENTIAL)
    assert after(top, 0.1, 29, start_s=100).level == Level.ESSENTIAL
    assert after(top, 0.1, 30, start_s=100).level == Level.STALE
    assert after(top, 0.1, 90, start_s=100).level == Level.NORMAL


def test_between_pressure_and_calm_nothing_moves():
    standing = Standing(Level.STALE)
    assert after(standing, 0.8, 1000, start_s=0).level == Level.STALE
    assert after(Standing(), 0.8, 1000, start_s=0).level == Level.NORMAL


def test_a_moment_of_calm_starts_the_climb_again_and_a_moment_of_pressure_the_descent():
    standing = moved(Standing(), pressed(2), 0.0, RULES)
    standing = moved(standing, pressed(0.9), 1.0, RULES)
    assert moved(standing, pressed(2), 2.5, RULES).level == Level.NORMAL
    standing = moved(Standing(Level.STALE), pressed(0), 0.0, RULES)
    standing = moved(standing, pressed(0.8), 29.0, RULES)
    assert moved(standing, pressed(0), 31.0, RULES).level == Level.STALE


def test_a_signal_drives_no_further_than_it_may_and_does_not_hold_what_it_did_not_cause():
    assert after(Standing(), 9, 600, start_s=0, most=Level.NO_BACKGROUND).level == Level.NO_BACKGROUND
    assert after(Standing(Level.ESSENTIAL), 9, 600, start_s=0, most=Level.NO_BACKGROUND).level == Level.NO_BACKGROUND


def test_an_operators_word_holds_until_its_end_and_above_or_below_what_is_measured():
    word = Override(Level.NORMAL, 100.0, "eva", "load test")
    assert in_force([Level.ESSENTIAL], word, 99.9) == Level.NORMAL
    assert in_force([Level.STALE, Level.ESSENTIAL], word, 100.0) == Level.ESSENTIAL
    assert in_force([], word._replace(level=Level.READ_ONLY), 0.0) == Level.READ_ONLY
    assert in_force([], None, 0.0) == Level.NORMAL


@given(st.sampled_from(Feature), st.sampled_from(Level))
def test_what_a_level_turns_off_stays_off_on_every_higher_one(feature: Feature, level: Level):
    assert feature in TURNED_OFF_AT
    assert allowed(feature, Level.NORMAL)
    assert all(allowed(feature, level) >= allowed(feature, higher) for higher in Level if higher >= level)
    assert all(PASSES[level] >= PASSES[higher] >= Priority.CRITICAL for higher in Level if higher >= level)
