"""Folding is exact: whatever the batching, the repeats and the restarts, the rows are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.names import TenantId
from runtime.settings import Settings
from tables import sketches
from tables import tool_latency as tl
from tables.call_columns import Calls
from tables.columns import Name
from tables.error_classes import MOST_NAMES, OTHERS, count, merged
from tables.fold import named_samples
from tables.row_codec import Row, RowCodec
from tables.rows import WindowKey, newest
from tables.store import MemoryStore
from tables.window_outcome import Folded
from tables.window_partition import WindowPartition
from tables.windows import WindowRules

RULES = WindowRules(
    size_ms=10_000, retention_ms=60_000, lateness_ms=2_000, accept_late_ms=30_000, future_skew_ms=60_000, idle_s=5.0
)
KIND = tl.kind(Settings())
CODEC: RowCodec[tl.Latencies] = RowCodec(KIND)
BASE_MS = 1_760_000_000_000


@dataclass(frozen=True)
class Call:
    tenant: str
    tool: str
    at_ms: int
    latency_us: int
    error: str
    cache_hit: bool | None


def column(calls: Sequence[Call]) -> Calls:
    """The calls as the decoder gives them, made one by one."""
    labels = sorted({call.error for call in calls if call.error})
    flags = []
    for call in calls:
        cache = {None: 0, False: 1 << 12, True: 3 << 12}[call.cache_hit]
        failed = 1 << 11 | labels.index(call.error) << 14 if call.error else 0
        flags.append(cache | failed | (sketches.bucket_of(call.latency_us) + 1))
    return Calls(np.array([call.latency_us for call in calls], np.int64), np.array(flags, np.int64), labels)


def calls_within(span_ms: int) -> st.SearchStrategy[list[Call]]:
    return st.lists(
        st.builds(
            Call,
            tenant=st.sampled_from(["a", "b"]),
            tool=st.sampled_from(["search", "price"]),
            at_ms=st.integers(BASE_MS, BASE_MS + span_ms),
            latency_us=st.integers(0, 10_000_000_000),
            error=st.sampled_from(["", "", "timeout", "http_500"]),
            cache_hit=st.sampled_from([None, True, False]),
        ),
        max_size=60,
    )


class Worker:
    """A partition with its store and its changelog, as the runner drives it."""

    def __init__(self) -> None:
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.apart: Counter[Folded] = Counter()
        self.restart()

    def restart(self) -> None:
        store = MemoryStore()
        for key, value in self.changelog:
            store.write(0, [(key, value if value is None else newest(store.get(0, key), value))])
        self.store = store
        self.partition = WindowPartition(0, KIND, RULES, store, cache_bytes=5_000)
        self.partition.recover(0.0)

    def fold(self, log: list[Call], start: int, stop: int) -> None:
        taken = log[start:stop]
        names: list[Name] = [(TenantId(c.tenant), (c.tool, "")) for c in taken]
        samples = named_samples(range(len(taken)), names, [c.at_ms for c in taken], ())._replace(values=column(taken))
        outcome = self.partition.fold(samples, range(start, stop), [c.at_ms for c in taken], 0.0)
        self.apart.update(folded for _, folded in outcome.apart)

    def flush(self) -> None:
        rows = self.partition.changes(self.partition.take_dirty())
        self.changelog += rows
        self.store.write(0, rows)
        self.partition.settle()

    def rows(self) -> dict[tuple[str, str, int], tl.Latencies]:
        found = {CODEC.decode_key(key): CODEC.decode(raw).state for key, raw in self.store.items(0)}
        return {(key.tenant_id, key.subject[0], key.start_ms): state for key, state in found.items() if key}


def recount(log: list[Call]) -> dict[tuple[str, str, int], tl.Latencies]:
    """Counted one by one, by nothing of what is tested but the bucket; late events are left out by the rule's text."""
    out: dict[tuple[str, str, int], tl.Latencies] = {}
    newest_start: dict[str, int] = {}
    for c in log:
        start = c.at_ms // 10_000 * 10_000
        if start + 10_000 + 30_000 <= newest_start.get(c.tenant, 0):
            continue
        newest_start[c.tenant] = max(start, newest_start.get(c.tenant, 0))
        row = out.setdefault((c.tenant, c.tool, start), tl.Latencies())
        row.count += 1
        row.sum_us += c.latency_us
        row.max_us = max(row.max_us, c.latency_us)
        bucket = sketches.bucket_of(c.latency_us)
        row.histogram[bucket] = row.histogram.get(bucket, 0) + 1
        if c.error:
            row.errors += 1
            row.classes[c.error] = row.classes.get(c.error, 0) + 1
        row.lookups += c.cache_hit is not None
        row.hits += bool(c.cache_hit)
    return out


def drive(log: list[Call], data: st.DataObject) -> Worker:
    """Crash at any point: folded but not flushed, flushed but not committed. The log is read again from the commit."""
    worker, committed = Worker(), 0
    while committed < len(log):
        stop = data.draw(st.integers(committed + 1, len(log)))
        middle = data.draw(st.integers(committed, stop))
        worker.fold(log, committed, middle)
        worker.fold(log, middle, stop)
        fate = data.draw(st.sampled_from(["commit", "crash before flush", "crash before commit"]))
        if fate != "crash before flush":
            worker.flush()
        if fate == "commit":
            committed = stop
        else:
            worker.restart()
    worker.restart()
    return worker


@given(calls_within(40_000), st.data())
@settings(max_examples=200)
def test_rows_equal_a_recount_after_any_crashes(log: list[Call], data: st.DataObject):
    assert drive(log, data).rows() == recount(log)


@given(calls_within(200_000), st.data())
@settings(max_examples=200)
def test_what_is_too_late_to_count_is_decided_by_the_log_alone(log: list[Call], data: st.DataObject):
    assert drive(log, data).rows() == recount(log)


@given(calls_within(40_000), st.randoms(use_true_random=False))
def test_recovery_keeps_the_highest_position_in_any_order(log: list[Call], random: Random):
    worker = Worker()
    for offset in range(len(log)):
        worker.fold(log, offset, offset + 1)
        worker.flush()
    random.shuffle(worker.changelog)
    worker.restart()
    assert worker.rows() == recount(log)


@given(calls_within(40_000), st.randoms(use_true_random=False))
def test_any_order_of_the_calls_and_of_merging_gives_the_same_state(log: list[Call], random: Random):
    whole = tl.Latencies()
    if log:
        tl.FOLD.add_each([whole], [0, len(log)], column(log))
    shuffled = random.sample(log, len(log))
    parts = []
    while shuffled:
        size = random.randint(1, len(shuffled))
        part = tl.Latencies()
        tl.FOLD.add_each([part], [0, size], column(shuffled[:size]))
        parts.append(part)
        shuffled = shuffled[size:]
    random.shuffle(parts)
    state = tl.Latencies()
    for part in parts:
        state = tl.FOLD.merge(state, part)
    assert state == whole


states = st.builds(
    tl.Latencies,
    count=st.integers(0, 2**62),
    errors=st.integers(0, 2**62),
    sum_us=st.integers(0, 2**62),
    max_us=st.integers(0, 2**62),
    histogram=st.dictionaries(st.integers(-1, sketches.HIGH), st.integers(1, 2**40)).map(Counter),
    classes=st.dictionaries(st.text(max_size=8), st.integers(1, 2**40), max_size=MOST_NAMES),
    hits=st.integers(0, 2**62),
    lookups=st.integers(0, 2**62),
)
positions = st.integers(-1, 2**62)
tails = st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=3).map(tuple)


@given(states, positions, positions, tails)
def test_a_row_survives_its_encoding_with_what_a_newer_release_added(
    state: tl.Latencies, position: int, announced: int, tail: tuple[object, ...]
):
    row = Row(state, position, announced, tail)
    assert CODEC.decode(CODEC.encode(row)) == row


def test_a_sum_beyond_64_bits_survives_its_encoding():
    # Ten million calls of eleven days, in one window.
    calls = 20_000_000
    row = Row(tl.Latencies(count=calls, sum_us=calls * 10**12, max_us=10**12, histogram=Counter({1: calls})))
    assert CODEC.decode(CODEC.encode(row)) == row


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.integers(0, 2**50))
def test_a_key_survives_its_encoding(tenant: str, tool: str, version: str, start_ms: int):
    key = WindowKey(TenantId(tenant), (tool, version), start_ms)
    assert CODEC.decode_key(CODEC.encode_key(key)) == key


names = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=2)


@given(st.lists(names, max_size=200), st.lists(names, max_size=200))
def test_error_classes_are_bounded_and_exact_in_any_order(left: list[str], right: list[str]):
    def counted(of: list[str]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name in of:
            count(counts, name)
        return counts

    whole = counted(left + right)
    assert whole == counted(right + left) == merged(counted(left), counted(right))
    assert len(whole) <= MOST_NAMES
    assert sum(whole.values()) == len(left + right)
    exact = Counter(left + right)
    assert all(whole[name] == exact[name] for name in whole if name != OTHERS)
