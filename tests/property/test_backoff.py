from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from reliability.backoff import ceiling_s, full_jitter_s
from runtime.clock import ManualClock

attempts = st.integers(-5, 10**9)
bases = st.floats(0.001, 10)
caps = st.floats(0.001, 3600)


@given(attempts, bases, caps, st.integers())
def test_a_wait_is_never_negative_nor_above_its_ceiling(attempt: int, base_s: float, cap_s: float, seed: int):
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC), seed=seed)
    wait_s = full_jitter_s(attempt, base_s=base_s, cap_s=cap_s, clock=clock)
    assert 0 <= wait_s <= ceiling_s(attempt, base_s=base_s, cap_s=cap_s) <= cap_s


@given(st.integers(0, 100), bases, caps)
def test_the_ceiling_doubles_until_the_cap(attempt: int, base_s: float, cap_s: float):
    now_s = ceiling_s(attempt, base_s=base_s, cap_s=cap_s)
    assert ceiling_s(attempt + 1, base_s=base_s, cap_s=cap_s) == min(cap_s, 2 * now_s)


def test_waits_spread_over_the_whole_range():
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    waits_s = [full_jitter_s(3, base_s=1.0, cap_s=60.0, clock=clock) for _ in range(1000)]
    assert min(waits_s) < 0.1
    assert max(waits_s) > 7.9
    assert 3.6 < sum(waits_s) / len(waits_s) < 4.4
