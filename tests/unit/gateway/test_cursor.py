from __future__ import annotations

from gateway.cursor import Gap, take
from gateway.ring import Entry, Limits, Ring


def filled(count: int, messages: int = 1000) -> Ring:
    ring = Ring(Limits(10_000_000, messages, 60.0), 0)
    for offset in range(count):
        ring.append(Entry(offset, "a", f"orders:{offset % 2}", b"%04d" % offset, 0.0))
    return ring


def test_slices_join_to_everything_that_is_wanted_in_order():
    ring, cursor, chunks = filled(10), 2, []
    while True:
        taken = take(ring, "a", cursor, lambda channel: channel == "orders:0", upto=9, budget_bytes=8)
        chunks += taken.chunks
        cursor = taken.cursor
        if taken.live:
            break
    assert chunks == [b"0002", b"0004", b"0006", b"0008"]
    assert cursor == 9


def test_a_message_larger_than_the_budget_is_still_taken():
    assert take(filled(1), "a", 0, lambda _c: True, upto=1, budget_bytes=1).chunks == [b"0000"]


def test_a_cursor_that_the_ring_has_left_behind_gets_one_gap_and_is_live():
    taken = take(filled(10, messages=3), "a", 2, lambda _c: True, upto=10, budget_bytes=100)
    assert (taken.gap, taken.live, taken.cursor, taken.chunks) == (Gap(2, 10, "evicted"), True, 10, [])


def test_a_cursor_beyond_what_was_handed_out_waits():
    taken = take(filled(10), "a", 12, lambda _c: True, upto=10, budget_bytes=100)
    assert (taken.live, taken.cursor, taken.gap) == (False, 12, None)
