"""Which rows a replay leaves, and when stored rows are believed."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from tables.incarnations import META_KEY, incarnation_of
from tables.recovery import changes_of, prepare
from tables.rows import INCARNATION_SHIFT, RETURNED, newest, returned_of
from tables.store import MemoryStore


class Log(NamedTuple):
    incarnation: str
    source_incarnation: str
    begin: dict[int, int]
    end: dict[int, int]


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


def row(position: int, note: str = "") -> bytes:
    return msgspec.msgpack.encode((1, position, -1, note))


KEY, OTHER = b"\x94a", b"\x94b"


def replayed(*values: bytes | None, held: bytes | None = None) -> bytes | None:
    rows = MemoryStore()
    rows.write(0, [(KEY, held)])
    rows.write(0, changes_of(rows, 0, [Record(n, KEY, value) for n, value in enumerate(values)]))
    return rows.get(0, KEY)


def test_the_row_with_the_higher_position_stays_in_any_order():
    assert replayed(row(3), row(9), row(5)) == row(9)
    assert replayed(row(3), row(5), held=row(9)) == row(9)
    assert replayed(row(3), row(10), held=row(9)) == row(10)


def test_of_two_rows_at_the_same_position_the_later_stays():
    assert replayed(row(3, "first"), row(3, "then")) == row(3, "then")


def lettered(position: int, letters: int, note: str = "") -> bytes:
    returned = (Ext(RETURNED, msgspec.msgpack.encode(letters)),) if letters else ()
    return msgspec.msgpack.encode((1, position, -1, note, *returned))


@pytest.mark.parametrize("letters", [1, 127, 128, 255, 256, 65_535, 65_536])
def test_of_two_rows_at_the_same_position_the_one_with_more_letters_stays(letters: int):
    more, fewer = lettered(3, letters), lettered(3, letters - 1)
    assert returned_of(more) == letters
    assert replayed(more, fewer) == replayed(fewer, more) == more
    assert replayed(more, lettered(4, 0)) == lettered(4, 0)
    assert replayed(more, lettered(3, letters, "then")) == lettered(3, letters, "then")


def test_a_field_that_ends_like_a_number_of_letters_is_none():
    field = msgspec.msgpack.encode((1, 3, -1, b"\xd4\x01\x05"))
    assert field.endswith(b"\xd4\x01\x05")
    assert returned_of(field) == 0
    other = msgspec.msgpack.encode((1, 3, -1, Ext(7, b"\x05")))
    assert returned_of(other) == 0


WRITTEN = st.tuples(st.sampled_from([KEY, OTHER]), st.integers(0, 9), st.integers(0, 2))


@given(st.lists(WRITTEN, max_size=12), st.integers(0, 12), st.lists(st.integers(1, 4), max_size=6))
def test_what_the_owner_writes_again_stays_when_compaction_has_left_the_last_version_of_each_row(
    written: list[tuple[bytes, int, int]], checkpoint: int, cuts: list[int]
):
    """In whatever order former owners wrote, whatever was stored already, in whatever pieces the rest is read."""
    log = [Record(n, key, lettered(position, letters)) for n, (key, position, letters) in enumerate(written)]
    rows, outdone = MemoryStore(), set[bytes]()
    rows.write(0, changes_of(rows, 0, log[:checkpoint], outdone=outdone))
    begin = checkpoint
    for size in [*cuts, len(log)]:
        rows.write(0, changes_of(rows, 0, log[begin : begin + size], outdone=outdone))
        begin += size
    log += [Record(len(log) + n, key, rows.get(0, key)) for n, key in enumerate(outdone)]
    compacted = list({record.key: record for record in log}.values())
    again = MemoryStore()
    again.write(0, changes_of(again, 0, compacted))
    assert dict(again.items(0)) == dict(rows.items(0))


def test_a_late_deletion_that_changed_nothing_is_outdone_and_a_newer_version_ends_that():
    rows, outdone = MemoryStore(), set[bytes]()
    rows.write(0, [(KEY, row(3)), (OTHER, row(3))])
    assert changes_of(rows, 0, [Record(0, KEY, None), Record(1, OTHER, row(2))], lambda _key: True, outdone) == []
    assert outdone == {KEY, OTHER}
    changes_of(rows, 0, [Record(2, KEY, row(3))], outdone=outdone)
    assert outdone == {OTHER}


def test_a_deletion_removes_what_came_before_it_and_nothing_after():
    assert replayed(row(9), None) is None
    assert replayed(None, held=row(9)) is None
    assert replayed(row(9), None, row(3)) == row(3)


def test_each_key_is_changed_once_and_records_without_a_key_are_left_out():
    rows = MemoryStore()
    records = [Record(0, KEY, row(1)), Record(1, None, b"?"), Record(2, OTHER, row(1)), Record(3, KEY, row(2))]
    assert changes_of(rows, 0, records) == [(KEY, row(2)), (OTHER, row(1))]


@pytest.mark.parametrize(("checkpoint", "believed"), [(9, False), (10, True), (15, True), (20, True), (21, False)])
def test_a_checkpoint_outside_the_changelog_is_not_believed(checkpoint: int, *, believed: bool):
    rows = MemoryStore()
    rows.begin("one")
    rows.write(0, [(KEY, row(1))], checkpoint)
    prepare(rows, Log("one", "s", {0: 10, 1: 0}, {0: 20, 1: 0}), [0, 1])
    assert rows.checkpoint(0) == (checkpoint if believed else None)
    assert rows.get(0, KEY) == (row(1) if believed else None)
    assert rows.partitions() == {0, 1}


def test_rows_of_another_incarnation_of_the_changelog_are_not_believed():
    rows = MemoryStore()
    rows.begin("one")
    rows.write(0, [(KEY, row(1))], 15)
    prepare(rows, Log("two", "s", {0: 0}, {0: 20}), [0])
    assert (rows.checkpoint(0), rows.get(0, KEY)) == (None, None)


def test_a_new_partition_is_at_the_first_incarnation_of_its_source_until_that_changes():
    rows = MemoryStore()
    first = incarnation_of(rows, 0, "id-1")
    assert (first.number, first.base) == (0, 0)
    assert first.to_write is not None
    assert incarnation_of(rows, 0, "id-1") == first, "asked again before it was written"
    rows.write(0, [first.to_write])
    assert incarnation_of(rows, 0, "id-1") == (0, None)


def test_a_source_that_was_created_again_gets_positions_above_all_earlier_ones():
    rows = MemoryStore()
    ids = ["id-1", "id-2", "id-3", "id-1"]
    for number, source in enumerate(ids):
        found = incarnation_of(rows, 0, source)
        assert (found.number, found.base) == (number, number << INCARNATION_SHIFT)
        assert found.to_write is not None
        rows.write(0, [found.to_write])
    assert incarnation_of(rows, 1, "id-1").number == 0, "each partition has its own"


def test_a_meta_row_may_have_more_fields_but_no_other_meaning():
    rows = MemoryStore()
    rows.write(0, [(META_KEY, msgspec.msgpack.encode((1, 4, 0, "id-1", "a newer field")))])
    assert incarnation_of(rows, 0, "id-1") == (4, None)
    assert incarnation_of(rows, 0, "id-2").number == 5
    rows.write(0, [(META_KEY, msgspec.msgpack.encode((2, 4, 0, "id-1")))])
    with pytest.raises(ValueError, match="format 2, this worker reads 1"):
        incarnation_of(rows, 0, "id-1")


def test_an_old_incarnation_that_a_paused_owner_writes_late_does_not_win():
    rows = MemoryStore()
    old = incarnation_of(rows, 0, "id-1").to_write
    assert old is not None
    rows.write(0, [old])
    new = incarnation_of(rows, 0, "id-2").to_write
    assert new is not None
    assert old[1] is not None
    assert new[1] is not None
    assert newest(new[1], old[1]) == new[1]
    rows.write(0, changes_of(rows, 0, [Record(0, *new), Record(1, *old)]))
    assert incarnation_of(rows, 0, "id-2").number == 1
    assert rows.get(0, META_KEY) == new[1]
