from __future__ import annotations

import pytest

from gateway.ring import ENTRY_OVERHEAD_BYTES, Entry, Limits, Ring


def entry(offset: int, tenant: str = "a", channel: str = "orders:1", at_s: float = 0.0) -> Entry:
    return Entry(offset, tenant, channel, b"x" * 10, at_s)


def ring(messages: int = 100, size_bytes: int = 1_000_000, age_s: float = 60.0, start: int = 0) -> Ring:
    return Ring(Limits(size_bytes, messages, age_s), start)


def test_entries_leave_by_count_by_size_and_by_age():
    by_count = ring(messages=2)
    by_size = ring(size_bytes=2 * (ENTRY_OVERHEAD_BYTES + 10))
    by_age = ring(age_s=5.0)
    for number in range(4):
        for one in (by_count, by_size, by_age):
            one.append(entry(number, at_s=float(number * 2)))
    by_age.expire(now_s=9.0)
    assert [len(by_count), len(by_size), len(by_age)] == [2, 2, 2]
    assert by_count.size_bytes == 2 * (ENTRY_OVERHEAD_BYTES + 10)


def test_a_quiet_tenant_is_covered_although_a_busy_one_pushed_entries_out():
    small = ring(messages=3)
    small.append(entry(0, tenant="busy"))
    small.append(entry(1, tenant="quiet"))
    for offset in range(2, 4):
        small.append(entry(offset, tenant="busy"))
    assert small.covers("quiet", 0)
    assert not small.covers("busy", 0)
    assert small.covers("busy", 1)


def test_nothing_before_the_start_is_covered():
    assert not ring(start=10).covers("a", 9)
    assert ring(start=10).covers("a", 10)


def test_a_record_that_was_passed_over_moves_the_end_only():
    one = ring()
    one.append(entry(0))
    one.pass_over(5)
    assert (one.end, len(one)) == (6, 1)
    with pytest.raises(ValueError, match="below the ring's end"):
        one.append(entry(5))


def test_reading_keeps_to_the_tenant_and_the_bounds():
    one = ring()
    for offset in range(10):
        one.append(entry(offset, tenant="ab"[offset % 2]))
    assert [e.offset for e in one.read("a", 3, 8)] == [4, 6]
    assert list(one.read("c", 0, 10)) == []


def test_the_last_messages_are_counted_by_family():
    one = ring()
    one.append(entry(0, channel="alerts:p95"))
    for offset in range(1, 6):
        one.append(entry(offset, channel=f"orders:{offset}"))
    assert [e.offset for e in one.last("a", 2, lambda _channel: True)] == [0, 4, 5]
    assert [e.offset for e in one.last("a", 2, lambda channel: channel.startswith("alerts"))] == [0]
    assert one.last("a", 0, lambda _channel: True) == []
