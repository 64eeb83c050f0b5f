"""A requeue never floods a consumer that still fails, never exceeds its rate, and ends when the cause is gone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.requeue_plan import (
    FIRST_WINDOW,
    MOST_STRIKES,
    MOST_WINDOW,
    Outcomes,
    Pace,
    allowed,
    begun,
    observed,
    spent,
)

BACKOFF_S, CAP_S = 1.0, 60.0


def looked(pace: Pace, seen: Outcomes, now_s: float, rate_per_s: float) -> Pace:
    return observed(pace, seen, now_s, rate_per_s=rate_per_s, backoff_s=BACKOFF_S, backoff_cap_s=CAP_S)


@settings(max_examples=60)
@given(
    letters=st.integers(1, 3000),
    rate_per_s=st.floats(0.1, 5000),
    rounds=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1), st.floats(0, 1)), max_size=60),
)
def test_what_leaves_stays_within_window_and_rate(
    letters: int, rate_per_s: float, rounds: list[tuple[float, float, float]]
):
    """Each round: time that passes, share of what is out that is heard of, share of that which recovers."""
    seen, now_s, left = Outcomes(letters, 0, 0, 0), 0.0, 0
    pace = begun(now_s, rate_per_s, seen)
    for pause_s, heard, good in rounds:
        now_s += pause_s
        told = int(seen.under_way * heard)
        recovered = int(told * good)
        died = told - recovered
        seen = replace(
            seen, under_way=seen.under_way - told, recovered=seen.recovered + recovered, died=seen.died + died
        )
        pace = looked(pace, seen, now_s, rate_per_s)
        count = allowed(pace, seen, now_s)
        assert 0 <= count <= seen.waiting
        assert seen.under_way + count <= max(MOST_WINDOW, seen.under_way)
        assert not (count and now_s < pace.hold_until_s)
        pace, left = spent(pace, count), left + count
        seen = replace(seen, waiting=seen.waiting - count, under_way=seen.under_way + count)
        assert left <= max(1.0, rate_per_s) + rate_per_s * now_s + 1e-6


@settings(max_examples=20)
@given(letters=st.integers(200, 100_000), turn_s=st.floats(0.05, 5))
def test_a_requeue_whose_letters_all_die_is_given_up_after_a_few(letters: int, turn_s: float):
    seen, now_s, left = Outcomes(letters, 0, 0, 0), 0.0, 0
    pace = begun(now_s, 10_000, seen)
    for _turn in range(100_000):
        pace = looked(pace, seen, now_s, 10_000)
        if pace.gives_up:
            break
        count = allowed(pace, seen, now_s)
        pace, left, now_s = spent(pace, count), left + count, now_s + turn_s
        seen = replace(seen, waiting=seen.waiting - count, died=seen.died + count)  # all of them at once
    assert pace.gives_up
    assert left <= 2 * FIRST_WINDOW + MOST_STRIKES
    assert allowed(pace, seen, now_s + 1e9) == 0


@settings(max_examples=20)
@given(letters=st.integers(1, 50_000))
def test_a_requeue_whose_letters_recover_doubles_each_round_and_ends(letters: int):
    seen, now_s = Outcomes(letters, 0, 0, 0), 0.0
    pace = begun(now_s, 1e9, seen)
    rounds = 0
    while seen.waiting:
        now_s, rounds = now_s + 0.2, rounds + 1
        pace = looked(pace, seen, now_s, 1e9)
        count = allowed(pace, seen, now_s)
        assert count > 0
        pace = spent(pace, count)
        seen = replace(seen, waiting=seen.waiting - count, recovered=seen.recovered + count)
    assert rounds <= 8 + letters / MOST_WINDOW


def test_one_letter_that_recovers_takes_all_strikes_back():
    failing = Outcomes(10, 0, 0, 1)
    pace = Pace(0.0, credit=10.0, window=1.0, strikes=MOST_STRIKES - 1)
    assert looked(pace, failing, 1.0, 10).gives_up
    assert looked(pace, Outcomes(10, 0, 1, 0), 1.0, 10).strikes == 0


def test_letters_that_moved_to_another_requeue_are_no_news():
    pace = replace(begun(0.0, 10, Outcomes(10, 0, 5, 5)), window=40.0)
    assert looked(pace, Outcomes(10, 0, 2, 0), 1.0, 10).window == 40.0
