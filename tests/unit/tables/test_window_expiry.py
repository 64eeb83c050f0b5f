"""Rows go when they are past their tenant's retention: all of them, none before, and nobody else's clock matters."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.names import TenantId
from runtime.settings import Settings
from tables import tool_latency as tl
from tables.call_columns import Calls
from tables.columns import Name
from tables.fold import named_samples
from tables.row_codec import Row
from tables.rows import WindowKey
from tables.start_ranges import StartRanges
from tables.store import MemoryStore
from tables.window_expiry import MOST_KEYS
from tables.window_outcome import Folded
from tables.window_partition import WindowPartition
from tables.windows import WindowRules

RULES = WindowRules(
    size_ms=10_000, retention_ms=60_000, lateness_ms=0, accept_late_ms=60_000, future_skew_ms=10**15, idle_s=5.0
)
DAY_MS = 86_400_000
NOW_MS = 1_760_000_000_000


class Bench:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.rows = WindowPartition(0, tl.kind(Settings()), RULES, self.store)
        self.offset = 0
        self.now_s = 0.0
        self.deleted: list[WindowKey] = []

    def events(self, *events: tuple[str, int], record_ms: int = NOW_MS) -> list[tuple[int, Folded]]:
        self.rows.marks.observe_broker(record_ms, self.now_s)
        count = len(events)
        names: list[Name] = [(TenantId(tenant), ("t", "")) for tenant, _ in events]
        calls = Calls(np.ones(count, np.int64), np.ones(count, np.int64), ())
        samples = named_samples(range(count), names, [at for _, at in events], ())._replace(values=calls)
        offsets = range(self.offset, self.offset + count)
        self.offset += count
        return self.rows.fold(samples, offsets, [record_ms] * count, self.now_s).apart

    def flush(self, times: int = 1) -> None:
        for _ in range(times):
            self.rows.apply()
            gone = self.rows.take_expired(self.now_s)
            changes = self.rows.changes(self.rows.take_dirty())
            over = self.rows.to_announce(self.now_s)
            self.deleted += gone
            changes += [(self.rows.encode_key(key), None) for key in gone]
            self.store.write(0, changes)
            self.rows.announced([(key, row.revision) for key, row in over.items()])
            self.rows.settle()
            self.now_s += 1

    def kept(self) -> set[tuple[str, int]]:
        keys = (self.rows._codec.decode_key(raw) for raw, _ in self.store.items(0))
        return {(key.tenant_id, key.start_ms) for key in keys if key}


def test_rows_of_a_tenant_whose_clock_is_days_behind_stay_for_their_retention():
    bench = Bench()
    old_ms = NOW_MS - 5 * DAY_MS
    bench.events(("slow", old_ms))
    bench.events(("slow", old_ms + 20_000))
    bench.flush(10)
    assert bench.kept() == {("slow", old_ms), ("slow", old_ms + 20_000)}


def test_a_tenant_of_which_nothing_was_heard_for_long_goes_whole_and_its_clock_with_it():
    bench = Bench()
    bench.events(("gone", NOW_MS))
    bench.flush(4)
    bench.now_s += 100
    bench.events(("here", NOW_MS + 2 * DAY_MS), record_ms=NOW_MS + 2 * DAY_MS)
    bench.flush(8)
    bench.now_s += 60
    bench.flush()
    assert bench.kept() == {("here", NOW_MS + 2 * DAY_MS)}
    assert bench.rows.marks.newest_start_ms(TenantId("gone"), 10_000) is None


def test_a_guessed_clock_a_day_ahead_deletes_nothing():
    bench = Bench()
    bench.events(("a", NOW_MS))
    bench.flush(3)
    restarted = Bench()
    restarted.store = bench.store
    restarted.rows = WindowPartition(0, tl.kind(Settings()), RULES, bench.store)
    restarted.rows.recover(0.0)
    restarted.rows.marks.guess_broker(NOW_MS + 3 * DAY_MS, 0.0)
    restarted.now_s = 10_000.0
    restarted.flush(5)
    assert restarted.kept() == {("a", NOW_MS)}


def test_a_backlog_longer_than_the_retention_leaves_only_what_is_retained():
    bench = Bench()
    bench.events(*(("a", NOW_MS + 10_000 * n) for n in range(360)), record_ms=NOW_MS + 3_600_000)
    bench.flush(6)
    newest_ms = NOW_MS + 3_590_000
    assert bench.kept() == {("a", ms) for ms in range(newest_ms - 60_000, newest_ms + 1, 10_000)}


def test_one_step_deletes_a_bounded_number_of_rows():
    bench = Bench()
    starts = 3 * MOST_KEYS
    bench.events(*(("a", NOW_MS + 10_000 * n) for n in range(starts)), record_ms=NOW_MS + 10_000 * starts)
    bench.flush(2)
    for _ in range(40):
        before = len(bench.deleted)
        bench.flush()
        assert len(bench.deleted) - before <= MOST_KEYS + 1
    assert len(bench.kept()) == 7


def test_a_redelivered_event_that_was_counted_is_a_repeat_even_when_it_is_too_late_by_now():
    bench = Bench()
    bench.events(("a", NOW_MS))
    bench.events(("a", NOW_MS + 75_000))
    bench.offset = 0
    assert bench.events(("a", NOW_MS)) == [(0, Folded.REPEAT)]
    bench.offset = 2
    assert bench.events(("a", NOW_MS + 1)) == [(0, Folded.EXPIRED)]


def test_memory_stays_flat_over_many_windows():
    bench = Bench()
    for n in range(3_000):
        bench.events(("a", NOW_MS + 10_000 * n), ("b", NOW_MS + 10_000 * n), record_ms=NOW_MS + 10_000 * n)
        bench.flush()
    bench.flush(3)
    assert len(bench.kept()) <= 2 * 9
    assert len(bench.rows._rows._rows) <= 2 * 9
    assert len(bench.rows._index._untold) <= 2
    assert not bench.rows._index._again


events = st.lists(
    st.tuples(st.sampled_from(["slow", "usual", "fast"]), st.integers(0, 60)).map(
        lambda pair: (pair[0], NOW_MS + 10_000 * pair[1] + {"slow": -(10**9), "usual": 0, "fast": 10**9}[pair[0]])
    ),
    max_size=60,
)


@given(st.lists(events, max_size=8))
@settings(max_examples=100)
def test_exactly_the_rows_past_their_own_tenants_retention_are_deleted(chunks: list[list[tuple[str, int]]]):
    bench = Bench()
    seen: dict[tuple[str, int], None] = {}
    newest: dict[str, int] = {}
    for chunk in chunks:
        for tenant, at_ms in chunk:
            start = at_ms - at_ms % 10_000
            if start + 70_000 > newest.get(tenant, 0):
                seen[tenant, start] = None
                newest[tenant] = max(newest.get(tenant, 0), start)
        bench.events(*chunk, record_ms=NOW_MS + 2 * 10**9)
        bench.flush()
    bench.now_s += 61  # the next look at quiet tenants
    bench.events(*((tenant, at_ms) for tenant, at_ms in newest.items()), record_ms=NOW_MS + 2 * 10**9)
    bench.flush(8)
    assert bench.kept() == {(t, start) for t, start in seen if start + 70_000 > newest[t]}
    assert len(bench.deleted) == len(set(bench.deleted))


def test_one_event_from_1970_does_not_keep_others_rows_from_expiring():
    bench = Bench()
    bench.events(("odd", 5_000))
    bench.events(("odd", NOW_MS))
    for n in range(30):
        bench.events(("a", NOW_MS + 10_000 * n), record_ms=NOW_MS + 10_000 * n)
        bench.flush(2)
    bench.flush(3)
    assert {start for tenant, start in bench.kept() if tenant == "a"} == {
        NOW_MS + 10_000 * n for n in range(30 - 7, 30)
    }
    assert ("odd", 0) not in bench.kept()


@given(st.lists(st.integers(0, 60).map(lambda n: 10 * n), max_size=80), st.data())
def test_ranges_hold_each_start_once(starts: list[int], data: st.DataObject):
    ranges, expected = StartRanges(10), set(starts)
    for start in starts:
        ranges.add(start)
    taken: list[int] = []
    while ranges:
        found = ranges.take(data.draw(st.integers(0, 600)), data.draw(st.integers(1, 10)))
        assert found == sorted(found)
        taken += found
        if not found:
            taken += ranges.take(600, 1)
    assert len(taken) == len(expected)
    assert set(taken) == expected


def test_a_row_put_in_by_a_replay_for_a_window_that_is_due_goes_all_the_same():
    bench = Bench()
    bench.events(("a", NOW_MS))
    bench.events(("a", NOW_MS + 200_000), record_ms=NOW_MS + 200_000)
    bench.flush(6)
    key = WindowKey(TenantId("a"), ("t", ""), NOW_MS)
    bench.rows.replace(key, Row(tl.Latencies(count=3), position=5, announced=5))
    bench.flush()
    bench.now_s += 60  # the next look at quiet tenants
    bench.flush(4)
    assert bench.kept() == {("a", NOW_MS + 200_000)}


def test_what_came_back_while_a_window_was_told_of_is_still_to_be_told():
    bench = Bench()
    bench.events(("one", NOW_MS - 60_000))
    bench.events(("one", NOW_MS))
    bench.rows.apply()
    (key, *_rest) = over = bench.rows.to_announce(bench.now_s)
    told = [(key, row.revision) for key, row in over.items()]
    revision = bench.rows.touch_again(key).revision
    bench.rows.announced(told)
    again = bench.rows.to_announce(bench.now_s)
    assert [row.revision for row in again.values()] == [revision]
    bench.rows.announced([(key, revision)])
    assert bench.rows.to_announce(bench.now_s) == {}
