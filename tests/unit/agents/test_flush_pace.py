from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.flush_pace import BUSY_SHARE, LONGEST_PAUSE_S, FlushPace

costs = st.floats(0, 10)
partitions = st.integers(1, 100)


def test_the_first_flush_is_not_held_up():
    assert FlushPace().pause_s(0.0, 12) == 0.0


def test_a_quiet_flush_is_followed_by_the_next_within_milliseconds():
    pace = FlushPace()
    pace.flushed(began_s=1.0, made_s=1.0002)
    assert 0 < pace.pause_s(1.0002, 4) < 0.01


@given(costs, partitions)
def test_flushes_of_all_partitions_take_at_most_their_share_of_the_time_or_wait_the_longest(cost_s: float, count: int):
    pace = FlushPace()
    pace.flushed(began_s=100.0, made_s=100.0 + cost_s)
    between_s = cost_s + pace.pause_s(100.0 + cost_s, count)
    assert between_s <= max(LONGEST_PAUSE_S, cost_s) + 1e-9
    assert cost_s * count <= BUSY_SHARE * between_s + 1e-9 or between_s >= LONGEST_PAUSE_S - 1e-9
