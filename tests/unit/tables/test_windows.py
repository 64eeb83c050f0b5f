"""Watermarks and windows."""

from __future__ import annotations

from contracts.names import TenantId
from tables.windows import Watermarks, window_start_ms

A, B = TenantId("a"), TenantId("b")
T = 1_760_000_000_000


def test_windows_are_aligned_to_the_epoch():
    assert window_start_ms(T + 9_999, 10_000) == T
    assert window_start_ms(T + 10_000, 10_000) == T + 10_000
    assert window_start_ms(-1, 10_000) == -10_000


def test_a_watermark_follows_its_tenant_only():
    marks = Watermarks(idle_s=5)
    marks.observe_broker(T + 60_000, 0)
    marks.observe(A, T + 30_000, 0)
    marks.observe(B, T, 0)
    assert (marks.of(A, 0), marks.of(B, 0)) == (T + 30_000, T)


def test_a_fast_clock_cannot_push_the_watermark_past_the_brokers():
    marks = Watermarks(idle_s=5)
    marks.observe_broker(T, 0)
    marks.observe(A, T + 600_000, 0)
    assert marks.of(A, 0) == T
    assert marks.of(A, 2.5) == T + 2_500


def test_a_silent_tenants_watermark_moves_on_with_the_brokers_clock():
    marks = Watermarks(idle_s=5)
    marks.observe_broker(T, 0)
    marks.observe(A, T - 1_000, 0)
    assert marks.of(A, 4.9) == T - 1_000
    assert marks.of(A, 20) == T + 15_000


def test_nothing_known_is_zero():
    assert Watermarks(idle_s=5).of(A, 10) == 0


def test_our_own_clock_stands_in_for_the_brokers_until_a_record_comes():
    marks = Watermarks(idle_s=5)
    marks.observe(A, T, 0)
    assert marks.of(A, 60) == T
    marks.guess_broker(T + 3_600_000, 60)
    assert marks.of(A, 60) == T + 3_595_000
    marks.observe_broker(T + 20_000, 61)
    assert marks.of(A, 61) == T + 15_000
    marks.guess_broker(T + 3_600_000, 61)
    assert marks.broker_ms(61) == T + 20_000


def test_one_record_dated_ahead_does_not_keep_the_brokers_clock_ahead():
    marks = Watermarks(idle_s=5)
    marks.observe_broker(T, 0)
    marks.observe_broker(T + 61_000, 1)
    for second in range(2, 200):
        assert T + 1000 * second <= marks.broker_ms(second) <= T + 1000 * second + 60_000
        marks.observe_broker(T + 1000 * second, second)
    assert marks.broker_ms(200) == T + 200_000


def test_after_a_quiet_time_the_next_record_says_what_the_time_is():
    marks = Watermarks(idle_s=5)
    marks.observe_broker(T + 60_000, 0)
    assert marks.broker_ms(1_000) == T + 1_060_000
    marks.observe_broker(T + 1_000_000, 1_000)
    assert marks.broker_ms(1_000) == T + 1_000_000


def test_a_late_record_takes_nothing_from_the_brokers_clock_while_there_are_newer_ones():
    marks = Watermarks(idle_s=5)
    for second in range(300):
        marks.observe_broker(T + 1000 * second, second)
        marks.observe_broker(T, second)
        assert marks.broker_ms(second) == T + 1000 * second
