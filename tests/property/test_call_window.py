"""Sliding windows against a list of all calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reliability.call_window import FAILED, SLOW, CountWindow, TimeWindow

CALLS = st.lists(st.sampled_from([0, FAILED, SLOW, FAILED | SLOW]), max_size=60)


def counts(calls: list[int]) -> tuple[int, int, int]:
    return len(calls), sum(bool(c & FAILED) for c in calls), sum(bool(c & SLOW) for c in calls)


@given(size=st.integers(1, 12), calls=CALLS)
def test_a_count_window_holds_the_last_calls(size: int, calls: list[int]):
    window = CountWindow(size)
    for call in calls:
        window.add(call, 0.0)
    assert (window.calls, window.failed, window.slow) == counts(calls[-size:])
    window.clear()
    assert (window.calls, window.failed, window.slow) == (0, 0, 0)


@given(
    calls=CALLS,
    gaps=st.lists(st.floats(0, 12, allow_nan=False), min_size=60, max_size=60),
    start_s=st.floats(0, 1e9),
    quiet_s=st.floats(0, 25),
)
def test_a_time_window_holds_the_calls_of_its_time_in_whole_slices(
    calls: list[int], gaps: list[float], start_s: float, quiet_s: float
):
    window, now_s = TimeWindow(10.0), start_s
    made: list[tuple[int, int]] = []
    for call, gap_s in zip(calls, gaps, strict=False):
        now_s += gap_s
        window.add(call, now_s)
        made.append((int(now_s / 1.0), call))
    now_s += quiet_s
    window.look(now_s)
    kept = [call for slice_, call in made if slice_ > int(now_s / 1.0) - 10]
    assert (window.calls, window.failed, window.slow) == counts(kept)
