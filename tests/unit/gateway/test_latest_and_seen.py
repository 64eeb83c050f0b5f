from __future__ import annotations

from gateway.latest import Latest
from gateway.seen import Seen


def everything(_channel: str) -> bool:
    return True


def test_only_the_newest_value_of_a_key_is_kept():
    latest = Latest(keys=10, age_s=60)
    latest.put("a", "k", "tools:x", b"1", 0)
    latest.put("a", "j", "tools:y", b"2", 0)
    latest.put("a", "k", "tools:x", b"3", 0)
    assert latest.since("a", 0, everything) == [b"2", b"3"]
    assert latest.since("a", 2, everything) == [b"3"]
    assert latest.since("b", 0, everything) == []
    assert latest.since("a", 0, lambda channel: channel == "tools:y") == [b"2"]


def test_values_are_bounded_by_keys_and_age():
    latest = Latest(keys=2, age_s=60)
    for number in range(3):
        latest.put("a", str(number), "c", b"%d" % number, float(number))
    assert latest.since("a", 0, everything) == [b"1", b"2"]
    latest.expire(61.5)
    assert latest.since("a", 0, everything) == [b"2"]


def test_an_id_is_a_repeat_after_its_first_offset_and_for_its_own_tenant_only():
    seen = Seen(10)
    assert not seen.is_repeat("a", "m", 1)
    assert not seen.is_repeat("a", "m", 1)
    assert seen.is_repeat("a", "m", 2)
    assert not seen.is_repeat("b", "m", 3)
    assert seen.first_offset("a", "m") == 1


def test_the_least_recently_seen_id_is_forgotten_first():
    seen = Seen(2)
    seen.is_repeat("a", "1", 1)
    seen.is_repeat("a", "2", 2)
    seen.is_repeat("a", "1", 3)
    seen.is_repeat("a", "3", 4)
    assert (len(seen), seen.first_offset("a", "2"), seen.first_offset("a", "1")) == (2, None, 1)
