"""Stores against a dictionary, and the ordered keys against a sorted list, under any sequence of calls."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.clock import ManualClock
from tables import sorted_keys
from tables.rocks_store import RocksMemory, RocksStore
from tables.sorted_keys import SortedKeys
from tables.store import Change, MemoryStore, RowStore

# Above every key that a store keeps for itself, as the keys of rows are.
KEYS = st.binary(max_size=2).map(lambda tail: b"\x94" + tail)
FLUSHES = st.lists(
    st.tuples(
        st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=20), st.none() | st.integers(0, 99)
    ),
    max_size=20,
)


@given(st.lists(KEYS, unique=True, max_size=200), st.data(), KEYS, KEYS)
def test_keys_stay_in_order_whatever_is_added_and_removed(keys: list[bytes], data: st.DataObject, a: bytes, b: bytes):
    gone = data.draw(st.lists(st.sampled_from(keys), unique=True)) if keys else []
    load, sorted_keys.LOAD = sorted_keys.LOAD, 2  # pieces of at most four keys: many splits
    try:
        held = SortedKeys()
        for key in keys:
            held.add(key)
        for key in gone:
            held.remove(key)
        left = sorted(set(keys) - set(gone))
        assert list(held.between(b"", None)) == left
        assert list(held.between(a, b)) == [key for key in left if a <= key < b]
        assert len(held) == len(left)
    finally:
        sorted_keys.LOAD = load


def compare(store: RowStore, flushes: list[tuple[list[Change], int | None]]) -> None:
    rows: dict[bytes, bytes] = {}
    checkpoint: int | None = None
    for changes, offset in flushes:
        store.write(0, changes, offset)
        for key, value in changes:
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        if offset is not None:
            checkpoint = max(offset, checkpoint or 0)
    assert list(store.items(0)) == sorted(rows.items())
    assert store.checkpoint(0) == checkpoint
    asked = sorted({key for changes, _ in flushes for key, _ in changes})
    assert store.get_many(0, asked) == [rows.get(key) for key in asked]


@given(FLUSHES)
def test_a_store_in_memory_holds_what_a_dictionary_would(flushes: list[tuple[list[Change], int | None]]):
    compare(MemoryStore(), flushes)


@settings(max_examples=30)
@given(FLUSHES)
def test_a_store_on_disk_holds_what_a_dictionary_would(flushes: list[tuple[list[Change], int | None]]):
    with tempfile.TemporaryDirectory() as folder:
        store = RocksStore(
            Path(folder), RocksMemory(8 * 1024 * 1024), ManualClock(datetime.fromtimestamp(0, UTC)), max_age_s=60.0
        )
        compare(store, flushes)
        store.close()
