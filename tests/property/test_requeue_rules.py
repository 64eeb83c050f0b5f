"""When dead letters of a class are due by their rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from control.rules import PROBE, Last, due, most_letters
from streams.letter_filter import MAX_IDS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(times=st.integers(1, 20), first_s=st.floats(1, 86_400), most_s=st.floats(1, 604_800))
def test_each_number_of_requeues_has_its_time_which_grows_to_the_longest_and_no_further(
    times: int, first_s: float, most_s: float
):
    lines = due(times, NOW, first_s=first_s, most_s=most_s)
    assert [line.count for line in lines] == list(range(times))
    waits_s = [(NOW - line.before).total_seconds() for line in lines]
    assert waits_s == sorted(waits_s)
    assert all(wait_s <= most_s + 1e-6 for wait_s in waits_s)
    assert abs(waits_s[0] - min(first_s, most_s)) < 1e-5


def test_the_times_double():
    lines = due(4, NOW, first_s=60, most_s=3600)
    assert [(NOW - line.before) / timedelta(minutes=1) for line in lines] == [1, 2, 4, 8]


def test_a_class_has_one_requeue_at_a_time_and_after_one_that_helped_nobody_rests_and_tries_a_few():
    minute = timedelta(minutes=1)
    assert most_letters(None, NOW, first_s=60) == MAX_IDS
    assert most_letters(Last(None, recovered=False), NOW, first_s=60) == 0
    assert most_letters(Last(None, recovered=True), NOW, first_s=60) == 0
    assert most_letters(Last(NOW, recovered=True), NOW, first_s=60) == MAX_IDS
    assert most_letters(Last(NOW - minute / 2, recovered=False), NOW, first_s=60) == 0
    assert most_letters(Last(NOW - minute, recovered=False), NOW, first_s=60) == PROBE
