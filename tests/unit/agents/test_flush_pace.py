from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.flush_pace import BUSY_SHARE, FAST_RECORDS_PER_S, LONGEST_PAUSE_S, QUIET_S, Arrivals, FlushPace


def under_load() -> FlushPace:
    """A pace whose agent is given records all the time."""
    return FlushPace(Arrivals(newest_s=1e9))


def test_the_first_flush_is_not_held_up():
    assert under_load().pause_s(0.0, partitions=12, records=100_000) == 0.0


def test_on_a_quiet_topic_even_a_costly_flush_is_followed_by_the_next_within_milliseconds():
    pace = under_load()
    pace.flushed(began_s=1.0, made_s=1.005)
    assert pace.pause_s(1.01, partitions=4, records=3) < 0.005


@given(st.floats(0, 10), st.integers(1, 100))
def test_under_a_backlog_flushes_take_at_most_their_share_of_the_time_or_wait_the_longest(cost_s: float, count: int):
    pace = under_load()
    pace.flushed(began_s=100.0, made_s=100.0 + cost_s)
    now_s = 100.0 + cost_s
    pause_s = pace.pause_s(now_s, partitions=count, records=int(FAST_RECORDS_PER_S * (cost_s + 1)))
    between_s = cost_s + pause_s
    assert between_s <= max(LONGEST_PAUSE_S, cost_s) + 1e-9
    assert cost_s * count <= BUSY_SHARE * between_s + 1e-9 or between_s >= LONGEST_PAUSE_S - 1e-9


@given(st.floats(0, 1), st.integers(1, 100), st.integers(0, 100_000), st.integers(0, 100_000))
def test_the_more_records_come_the_longer_is_the_pause(cost_s: float, count: int, few: int, more: int):
    pace = under_load()
    pace.flushed(began_s=100.0, made_s=100.0 + cost_s)
    fewer, most = sorted((few, more))
    now_s = 100.0 + cost_s
    assert pace.pause_s(now_s, partitions=count, records=fewer) <= pace.pause_s(now_s, partitions=count, records=most)


@given(st.floats(0, 1), st.integers(0, 100_000), st.floats(0, 2))
def test_once_no_partition_of_the_agent_gets_records_the_pause_ends(cost_s: float, records: int, silent_s: float):
    arrivals = Arrivals()
    pace, other = FlushPace(arrivals), FlushPace(arrivals)
    pace.flushed(began_s=100.0, made_s=100.0 + cost_s)
    other.folded(101.0)
    pause_s = pace.pause_s(101.0 + silent_s, partitions=4, records=records)
    assert pause_s <= max(0.0, QUIET_S - silent_s) + 1e-9


def test_a_pause_under_a_backlog_lasts_while_another_partition_gets_records():
    arrivals = Arrivals()
    pace, other = FlushPace(arrivals), FlushPace(arrivals)
    pace.flushed(began_s=100.0, made_s=100.05)
    other.folded(100.3)
    assert pace.pause_s(100.3, partitions=4, records=100_000) > 0.9 * QUIET_S
