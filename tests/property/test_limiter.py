from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import SettingsError
from reliability.limiter import LocalLimiter, Rate, Want, within
from runtime.clock import ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)
rates = st.builds(Rate, st.floats(0.1, 10_000), st.integers(1, 50))
# Pauses in units of the rate's interval, and costs.
asked = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 10)), min_size=1, max_size=60)


def one(rate: Rate, name: str = "acme") -> list[Want]:
    return [Want("tenant", (name,), rate)]


@given(rates, asked)
def test_in_any_stretch_of_time_no_more_passes_than_the_burst_and_the_rate(
    rate: Rate, requests: list[tuple[float, int]]
):
    clock, passed = ManualClock(START), []
    limiter = LocalLimiter(clock)
    for pause, cost in requests:
        clock.advance(pause / rate.per_s)
        if cost <= rate.burst and limiter.take(one(rate), cost).allowed:
            passed.append((clock.monotonic_s(), cost))
    for i, (from_s, _) in enumerate(passed):
        for j in range(i, len(passed)):
            total = sum(cost for _, cost in passed[i : j + 1])
            # 0.01 of a request: the slack that keeps rounding from refusing the burst's last one.
            assert total <= rate.burst + rate.per_s * (passed[j][0] - from_s) + 0.02


@given(rates, asked)
def test_a_refused_request_passes_when_it_was_told_to_come_back_and_not_before(
    rate: Rate, requests: list[tuple[float, int]]
):
    clock = ManualClock(START)
    limiter = LocalLimiter(clock)
    for pause, cost in requests:
        if cost > rate.burst:
            continue
        clock.advance(pause / rate.per_s)
        verdict = limiter.take(one(rate), cost)
        if not verdict.allowed:
            clock.advance(verdict.retry_after_s * 0.5)
            assert not limiter.take(one(rate), cost).allowed or verdict.retry_after_s < 0.05 / rate.per_s
            clock.advance(verdict.retry_after_s * 0.5)
            assert limiter.take(one(rate), cost).allowed


@given(st.integers(1, 100))
def test_a_whole_burst_passes_at_once_and_nothing_more(burst: int):
    limiter = LocalLimiter(ManualClock(START))
    wants = one(Rate(7.0, burst))
    assert sum(limiter.take(wants).allowed for _ in range(burst + 20)) == burst


@given(st.lists(st.sampled_from(["acme", "bolt"]), max_size=40), st.integers(1, 8), st.integers(1, 8))
def test_all_keys_are_charged_or_none_is(tenants: list[str], tenant_burst: int, global_burst: int):
    limiter = LocalLimiter(ManualClock(START))
    counted: dict[str, int] = {}
    for tenant in tenants:
        wants = [*one(Rate(1.0, tenant_burst), tenant), Want("global", (), Rate(1.0, global_burst))]
        fits = counted.get(tenant, 0) < tenant_burst and sum(counted.values()) < global_burst
        verdict = limiter.take(wants)
        assert verdict.allowed == fits
        counted[tenant] = counted.get(tenant, 0) + fits


@given(st.integers(1, 12), st.integers(2, 40))
def test_parts_of_a_limit_never_let_more_through_than_the_whole_and_one_each(parts: int, burst: int):
    wants = one(Rate(1.0, burst))
    processes = [LocalLimiter(ManualClock(START)) for _ in range(parts)]
    passed = sum(process.take(wants, parts=parts).allowed for process in processes for _ in range(burst + 1))
    assert passed <= max(burst, parts)


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 2)), max_size=200), st.integers(1, 20))
def test_memory_is_bounded_and_whole_bursts_are_not_kept(tenants: list[tuple[int, float]], most: int):
    clock = ManualClock(START)
    limiter = LocalLimiter(clock, most)
    for tenant, pause_s in tenants:
        clock.advance(pause_s)
        limiter.take(one(Rate(10.0, 5), str(tenant)))
        assert 1 <= len(limiter) <= most


def test_a_key_that_was_forgotten_is_the_one_that_was_quiet_for_longest():
    limiter = LocalLimiter(ManualClock(START), most_keys=2)
    for tenant in ("a", "b", "a", "c"):
        limiter.take(one(Rate(1.0, 2), tenant))
    assert not limiter.take(one(Rate(1.0, 2), "a")).allowed


@pytest.mark.parametrize("cost", [0, -1, 6])
def test_a_cost_that_mints_permits_or_never_passes_is_an_error(cost: int):
    with pytest.raises(ValueError, match=f"got {cost}"):
        LocalLimiter(ManualClock(START)).take(one(Rate(1.0, 5)), cost)


def test_names_that_read_alike_are_different_keys():
    limiter = LocalLimiter(ManualClock(START))
    rate = Rate(1.0, 1)
    assert limiter.take([Want("route", ("a/b", "c"), rate)]).allowed
    assert limiter.take([Want("route", ("a", "b/c"), rate)]).allowed
    assert not limiter.take([Want("route", ("a", "b/c"), rate)]).allowed


@given(st.integers(2, 200), st.data())
def test_a_rate_within_a_window_never_lets_more_through_in_one(most: int, data: st.DataObject):
    burst = data.draw(st.integers(1, most - 1))
    clock = ManualClock(START)
    limiter, wants = LocalLimiter(clock), one(within(most, 1.0, burst))
    passed = 0
    for _ in range(4 * most):
        passed += limiter.take(wants).allowed
        clock.advance(0.999 / (4 * most))
    assert passed <= most


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0), (2_000_000, 1), (float("nan"), 1)])
def test_a_rate_that_is_none_is_refused(per_s: float, burst: int):
    with pytest.raises(SettingsError, match="rate"):
        Rate(per_s, burst)
