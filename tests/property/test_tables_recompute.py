"""Recomputed windows are those of the live table, whatever the paging, the order of event times and the range."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.names import TenantId
from runtime.settings import Settings
from tables import recompute, tool_latency
from tables.fold import TableKind
from tables.recompute import Change, Page, Recomputation, TimeRange, Wanted, alike, change_of, count_of
from tables.rows import WindowKey
from tables.store import MemoryStore
from tables.window_partition import WindowPartition
from tables.windows import WindowRules

KIND: TableKind[Any] = tool_latency.kind(Settings())
SIZE_MS = KIND.size_ms
T0 = 1_700_000_000_000 // SIZE_MS * SIZE_MS
SKEW_MS = 60_000
DAY_MS = 86_400_000
RULES = WindowRules(SIZE_MS, 30 * DAY_MS, 2000, 30 * DAY_MS, SKEW_MS, 5.0)
TENANTS = ("acme", "bolt")

Call = tuple[int, int, int, bool]
# Event time in a few windows, in any order; some are dated too far ahead of their record, some do not decode.
CALLS: st.SearchStrategy[list[Call]] = st.lists(
    st.tuples(st.integers(0, 6 * SIZE_MS), st.integers(0, 3), st.integers(1, 3_000), st.booleans()), max_size=60
)


def payload(call: Call) -> bytes:
    offset_ms, who, latency_ms, failed = call
    if latency_ms % 29 == 0:
        return b"{broken"
    ts = datetime.fromtimestamp((T0 + offset_ms) / 1000, UTC).isoformat(timespec="milliseconds")
    event = {
        "event": "tool_executed",
        "version": "1.0",
        "tenant_id": TENANTS[who % 2],
        "tool": f"tool{who // 2}",
        "latency_ms": latency_ms,
        "status": "error" if failed else "ok",
        "ts": ts.replace("+00:00", "Z"),
    }
    return json.dumps(event).encode()


def record_ms(call: Call) -> int:
    """When its record came: at once, or (every seventh latency) so long before the event that it is not believed."""
    offset_ms, _who, latency_ms, _failed = call
    return T0 + offset_ms - (SKEW_MS + 1 if latency_ms % 7 == 0 else 0)


def live(calls: Sequence[Call]) -> dict[WindowKey, Any]:
    """The packed states of a live partition's rows."""
    store = MemoryStore()
    rows: WindowPartition[Any] = WindowPartition(0, KIND, RULES, store)
    for offset, call in enumerate(calls):
        samples = KIND.samples([payload(call)], "compat")
        rows.fold(samples, [offset], [record_ms(call)], 0.0)
    dirty = rows.take_dirty()
    return {key: KIND.fold.pack(row.state) for key, row in dirty.items()}


def pages(calls: Sequence[Call], lengths: Sequence[int]) -> list[Page]:
    cut, made = 0, []
    for length in [*lengths, len(calls)]:
        part = calls[cut : cut + length]
        cut += length
        if part:
            made.append(Page([payload(c) for c in part], [record_ms(c) for c in part], lambda _index: ()))
    return made


def recomputed(made: Sequence[Page], span: TimeRange, tenant: str | None = None) -> Recomputation[Any]:
    found = Recomputation(KIND, Wanted(span, None if tenant is None else TenantId(tenant), "compat", SKEW_MS))
    for page in made:
        found.fold(page)
    return found


def states(found: Recomputation[Any]) -> dict[WindowKey, Any]:
    return {key: KIND.fold.pack(found.state(key)) for key in found.keys()}  # noqa: SIM118 - keys is a list of its own


@given(CALLS, st.lists(st.integers(1, 20), max_size=6))
def test_whatever_the_paging_it_is_what_the_live_table_holds(calls: list[Call], lengths: list[int]):
    everything = TimeRange(T0, T0 + 7 * SIZE_MS)
    assert states(recomputed(pages(calls, lengths), everything)) == live(calls)


@given(CALLS, st.integers(0, 6 * SIZE_MS), st.integers(0, 7 * SIZE_MS), st.sampled_from([None, *TENANTS]))
def test_a_range_holds_whole_windows_and_nothing_else(calls: list[Call], begin: int, end: int, tenant: str | None):
    span = TimeRange(T0 + begin, T0 + end).whole(SIZE_MS)
    expected = {
        key: state
        for key, state in live(calls).items()
        if T0 + begin <= key.start_ms and key.start_ms + SIZE_MS <= T0 + end and tenant in (None, key.tenant_id)
    }
    assert states(recomputed(pages(calls, [7]), span, tenant)) == expected


@given(CALLS, st.integers(0, 60))
def test_dumped_and_loaded_it_goes_on_as_if_nothing_had_happened(calls: list[Call], cut: int):
    everything = TimeRange(T0, T0 + 7 * SIZE_MS)
    first = recomputed(pages(calls[:cut], []), everything)
    second = recomputed([], everything)
    second.load(first.dump())
    for page in pages(calls[cut:], []):
        second.fold(page)
    whole = recomputed(pages(calls, []), everything)
    assert states(second) == states(whole)
    assert (second.records, second.contributions, second.newest_ms) == (
        whole.records,
        whole.contributions,
        whole.newest_ms,
    )


@given(CALLS)
def test_rows_that_are_packed_away_come_back_as_they_were(calls: list[Call]):
    everything = TimeRange(T0, T0 + 7 * SIZE_MS)
    expected = states(recomputed(pages(calls, []), everything))
    limit = recompute.HOT_ROWS
    recompute.HOT_ROWS = 2
    try:
        assert states(recomputed(pages(calls, [3] * 20), everything)) == expected
    finally:
        recompute.HOT_ROWS = limit


@given(CALLS, CALLS)
def test_a_change_says_how_two_rows_differ(left: list[Call], right: list[Call]):
    everything = TimeRange(T0, T0 + 7 * SIZE_MS)
    before, after = recomputed(pages(left, []), everything), recomputed(pages(right, []), everything)
    for key in {*before.keys(), *after.keys()}:
        old, new = before.state(key), after.state(key)
        change = change_of(KIND, old, new)
        counts = [0 if state is None else count_of(KIND, KIND.fold.summarise(state)) for state in (old, new)]
        assert (change is Change.NEW) == (old is None)
        assert (change is Change.GONE) == (new is None)
        if old is not None and new is not None:
            assert (change is Change.SAME) == (KIND.fold.pack(old) == KIND.fold.pack(new))
            assert (change is Change.SHRINKS) == (counts[1] < counts[0])


PACKED = st.recursive(
    st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PACKED, PACKED)
def test_alike_is_equality_but_for_the_last_digits_of_floats(left: object, right: object):
    assert alike(left, left)
    if "." not in repr((left, right)) and "e" not in repr((left, right)):
        assert alike(left, right) == (left == right)
    assert alike([1, [left, 0.1 + 0.2]], [1, [left, 0.3]])
    assert not alike([1, left], [2, left])
