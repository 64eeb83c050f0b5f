"""An erased tenant's rows: whatever is written when, by whom, recovered when, only what is new is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.names import TenantId
from runtime.settings import Settings
from tables import erasure_marks
from tables.erasable_store import ErasableStore
from tables.erasure_marks import DONE, FORMAT, Mark
from tables.growing import Grown, moves
from tables.recovery import changes_of
from tables.rows import WindowKey, encode_key, header_of
from tables.store import MemoryStore
from tables.tool_latency import kind

TENANTS = ("gone", "stays")


@dataclass(frozen=True)
class Record:
    offset: int
    key: bytes
    value: bytes | None


def key_of(tenant: str, window: int) -> bytes:
    return encode_key("tl", WindowKey(TenantId(tenant), ("search", ""), window))


def row(position: int) -> bytes:
    return msgspec.msgpack.encode([1, position, -1, position])


def mark(position: int) -> bytes:
    return erasure_marks.encode(Mark(FORMAT, position, 0, "erase-1", DONE, 0, 0))


Written = tuple[str, int, int]
written = st.tuples(st.sampled_from(TENANTS), st.integers(0, 2), st.integers(0, 20))


@settings(max_examples=150)
@given(
    st.lists(written, max_size=12),
    st.integers(0, 20),
    st.lists(written, max_size=8),
    st.lists(written, max_size=8),
    st.lists(st.integers(1, 5), max_size=12),
)
def test_behind_a_mark_only_newer_rows_are_seen_however_late_the_others_come(
    before: list[Written], position: int, late: list[Written], new: list[Written], cuts: list[int]
):
    """`late`: what a former owner writes, old rows and deletions; `new`: rows of the owner, above the mark."""
    log: list[tuple[bytes, bytes | None]] = [(key_of(t, w), row(p)) for t, w, p in before if p <= position]
    log.append((erasure_marks.key_of("gone"), mark(position)))
    log += [(key, None) for key in {key for key, _ in log} if erasure_marks.tenant_of(key) == "gone"]
    fresh: dict[bytes, bytes] = {}
    for _tenant, window, more in sorted(new, key=lambda each: each[2]):
        fresh[key_of("gone", window)] = row(position + 1 + more)
        log.append((key_of("gone", window), row(position + 1 + more)))
    for _tenant, window, at in late:
        log.append((key_of("gone", window), row(min(at, position)) if at % 2 else None))
    store = ErasableStore(MemoryStore())
    records = [Record(offset, key, value) for offset, (key, value) in enumerate(log)]
    for batch in cut(records, cuts):
        for piece in erasure_marks.pieces(batch):
            outlives = lambda key: store.outlives(0, key)  # noqa: E731
            store.write(0, changes_of(store, 0, piece, outlives), piece[-1].offset + 1)
    seen = {key: value for key, value in store.items(0) if erasure_marks.tenant_of(key) == "gone"}
    assert seen == fresh
    assert {key: store.get(0, key) for key in fresh} == fresh
    others = {key for key, _ in log if erasure_marks.tenant_of(key) == "stays"}
    assert {key for key, _ in store.items(0) if erasure_marks.tenant_of(key) == "stays"} == others


def cut(records: Sequence[Record], sizes: Sequence[int]) -> Iterator[Sequence[Record]]:
    begin = 0
    for size in sizes:
        yield records[begin : begin + size]
        begin += size
    yield records[begin:]


def test_a_mark_that_was_not_written_holds_until_the_partition_is_opened_again():
    store = ErasableStore(MemoryStore())
    store.write(0, [(key_of("gone", 0), row(3)), (key_of("stays", 0), row(3))])
    store.mark(0, "gone", Mark(FORMAT, 3, 0, "erase-1", DONE, 0, 0))
    assert [erasure_marks.tenant_of(key) for key, _ in store.items(0)] == ["stays"]
    assert store.get_many(0, [key_of("gone", 0), key_of("stays", 0)]) == [None, row(3)]
    assert store.inner.get(0, key_of("gone", 0)) == row(3)
    store.open(0)
    assert len(list(store.items(0))) == 2


def test_every_kind_of_row_says_whose_it_is_and_where_it_stands():
    marks = {"gone": Mark(FORMAT, 7, 0, "erase-1", DONE, 0, 0)}
    waiting = encode_key("later", WindowKey(TenantId("gone"), ("7", f"{8:020d}/"), 0))
    alert = msgspec.msgpack.encode(("al", "gone", "search"))
    assert erasure_marks.is_erased(marks, alert, row(7))
    assert not erasure_marks.is_erased(marks, alert, row(8))
    assert not erasure_marks.is_erased(marks, waiting, row(1)), "a waiting record stands where its key says"
    assert not erasure_marks.is_erased(marks, erasure_marks.key_of("gone"), mark(7))
    assert not erasure_marks.outlives(marks, waiting)
    assert erasure_marks.outlives(marks, alert)


def test_topics_that_grow_take_no_mark_along_and_nothing_that_was_erased():
    grown = Grown(1, 2, 1, {0: 9})
    rows = {key_of("gone", 0): row(3), key_of("gone", 1): row(8), erasure_marks.key_of("gone"): mark(5)}
    found = moves(0, rows, grown, {"tl": kind(Settings())}, lambda _key, _partitions: 0)
    assert found.here[0] == (key_of("gone", 0), None)
    assert found.here[-1] == (erasure_marks.key_of("gone"), None), "last: until then it hides what is being deleted"
    ((key, raw),) = found.here[1:-1]
    assert (key, header_of(raw or b"").position) == (key_of("gone", 1), grown.position(0))
