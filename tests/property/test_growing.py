"""Topics grow, rows move, and nothing is wrong: results and windows are as if there had been one place."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.names import TenantId
from contracts.routing import subject_key
from headrace.growing import _kinds
from headrace.growth_plan import SPREAD, TableSize, TopicLoad, plan
from runtime.settings import Settings
from streams.kafka_log import partition_for
from tables import ab_results, ab_units, growing
from tables.ab_partition import AbPartition
from tables.ab_results import AbFold, AbState
from tables.growing import Grown
from tables.incarnations import META_KEY
from tables.row_codec import RowCodec
from tables.rows import INCARNATION_SHIFT, WindowKey, encode_key, header_of
from tables.store import Change, MemoryStore

KINDS = _kinds(Settings())
KIND = ab_results.kind(Settings())
RESULTS = RowCodec(KIND)
PLENTY = 1_000_000


def event(random: Random) -> dict[str, Any]:
    """An assignment or an outcome of one of few units; some outcomes have no id of their own."""
    found: dict[str, Any] = {
        "version": "1.0",
        "tenant_id": random.choice(["t1", "t2"]),
        "experiment": random.choice(["x", "y"]),
        "unit": f"u{random.randrange(12)}",
        "ts": f"2026-01-01T00:00:{random.randrange(60):02d}Z",
    }
    if random.random() < 0.4:
        return found | {"event": "ab_test_assignment", "arm": random.choice(["control", "b"]), "epoch": 0}
    kind = random.choice(["mean", "binary", "quantile"])
    outcome = {"metric": kind, "kind": kind, "value": random.randrange(2) if kind == "binary" else random.randrange(99)}
    named = {"event_id": f"e{random.randrange(30)}"} if random.random() < 0.5 else {}
    return found | {"event": "ab_test_outcome"} | outcome | named


class Deployment:
    """The experiments topic and its table, of some partitions."""

    def __init__(self, partitions: int) -> None:
        self.store = MemoryStore()
        self.partitions = partitions
        self.number = 0
        self.ends: Counter[int] = Counter()

    def fold(self, events: list[dict[str, Any]], reference: AbPartition) -> None:
        """Fold events where they belong, and all of them into `reference` too."""
        works: dict[int, AbPartition] = {}
        for each in events:
            ((_, sample),) = enumerate(ab_units.samples([json.dumps(each).encode()], "strict").values)
            number = partition_for(subject_key(TenantId(each["tenant_id"]), each["unit"]), self.partitions)
            offset = self.ends[number]
            self.ends[number] += 1
            found = ab_units.event_of(sample, partial(str, f"at {number}/{offset}"))
            work = works.setdefault(number, partition_of(self.store, number))
            work.fold(sample.tenant_id, sample.unit, found, (self.number << INCARNATION_SHIFT) + offset)
            reference.fold(sample.tenant_id, sample.unit, found, sum(self.ends.values()) + (self.number << 50))
        for number, work in works.items():
            self.write(number, [change for batch in work.take().batches for change in batch])

    def write(self, number: int, changes: Iterable[Change]) -> None:
        self.store.write(number, list(changes))

    def rows(self, number: int) -> dict[bytes, bytes]:
        return dict(self.store.items(number))

    def grow(self, to: int, *, killed_after: int) -> None:
        """As headrace.growing does; the first run is killed after so many writes."""
        grown = Grown(self.partitions, to, self.number + 1, dict(self.ends))
        for most in (killed_after, PLENTY):
            self.grow_once(grown, most)
        self.partitions, self.number = to, grown.number

    def grow_once(self, grown: Grown, most: int) -> None:
        steps = self.steps(grown)
        for _turn, (number, changes) in zip(range(most), steps, strict=False):
            self.write(number, changes)

    def steps(self, grown: Grown):
        for number in range(grown.after):
            found = growing.moves(number, self.rows(number), grown, KINDS, partition_for)
            yield from found.away.items()
            yield number, found.here
        for number in range(grown.after):
            yield number, growing.Results(KIND).rebuilt(self.rows(number), grown.position(number))
        for number in range(grown.after):
            yield number, [growing.meta_row(grown.number, "id")]

    def states(self) -> dict[WindowKey, Any]:
        fold, merged = AbFold(), defaultdict[WindowKey, AbState](AbState)
        for number in range(self.partitions):
            for key, raw in self.rows(number).items():
                result = RESULTS.decode_key(key)
                if result is not None:
                    merged[result] = fold.merge(merged[result], RESULTS.decode(raw).state)
        return {key: fold.pack(state) for key, state in merged.items() if not state.is_empty}


def partition_of(store: MemoryStore, number: int) -> AbPartition:
    return AbPartition(number, KIND, store, most_outcomes=1000, batch_bytes=PLENTY, cache_bytes=1)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 5), st.integers(0, 30))
def test_results_after_growth_are_those_of_one_place(seed: int, before: int, more: int, killed_after: int):
    random = Random(seed)
    old, new = ([event(random) for _ in range(random.randrange(40))] for _ in range(2))
    deployment, store = Deployment(before), MemoryStore()
    reference = partition_of(store, 0)
    deployment.fold(old, reference)
    deployment.grow(before + more, killed_after=killed_after)
    deployment.fold(new, reference)
    for batch in reference.take().batches:
        store.write(0, batch)
    rows = ((RESULTS.decode_key(key), raw) for key, raw in store.items(0))
    states = {key: RESULTS.decode(raw).state for key, raw in rows if key is not None}
    assert deployment.states() == {key: AbFold().pack(state) for key, state in states.items() if not state.is_empty}


def window(tool: str, position: int, announced: int) -> tuple[bytes, bytes]:
    key = encode_key("tl", WindowKey(TenantId("t"), (tool, ""), 1000))
    return key, msgspec.msgpack.encode((1, position, announced, 5, 0, 100, 50, b"histogram", "of a newer release"))


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 500), st.booleans()), max_size=30, unique_by=lambda t: t[0]),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_every_window_is_where_its_key_is_above_all_positions_and_below_the_next_record(
    windows: list[tuple[int, int, bool]], before: int, more: int
):
    after, ends = before + more, dict.fromkeys(range(before), 501)
    held: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    for tool, position, told in windows:
        key, raw = window(f"tool-{tool}", position, position if told else -1)
        held[partition_for(subject_key(TenantId("t"), f"tool-{tool}"), before)][key] = raw
    grown = Grown(before, after, 3, ends)
    for number in range(after):
        found = growing.moves(number, dict(held[number]), grown, KINDS, partition_for)
        for target, changes in found.away.items():
            held[target].update({key: raw for key, raw in changes if raw is not None})
        for key, change in found.here:
            if change is None:
                del held[number][key]
            else:
                held[number][key] = change
    announced = {f"tool-{tool}": told for tool, _, told in windows}
    seen = 0
    for number, rows in held.items():
        first_record = (3 << INCARNATION_SHIFT) + ends.get(number, 0)
        for key, raw in rows.items():
            tool = msgspec.msgpack.decode(key)[3]
            header = header_of(raw)
            assert partition_for(subject_key(TenantId("t"), tool), after) == number
            assert (2 << INCARNATION_SHIFT) + 500 < header.position == first_record - 1
            assert (header.position == header.announced) is announced[tool]
            assert msgspec.msgpack.decode(raw)[3:] == [5, 0, 100, 50, b"histogram", "of a newer release"]
            seen += 1
    assert seen == len(windows)


def test_a_row_of_a_kind_that_this_release_does_not_know_is_not_moved():
    grown = Grown(1, 2, 1, {})
    with pytest.raises(growing.UnknownKind, match="'zz'"):
        growing.moves(
            0, {msgspec.msgpack.encode(("zz", 0, "t", "s")): b"\x93\x01\x01\x01"}, grown, KINDS, partition_for
        )


def test_the_number_is_above_that_of_every_partition():
    held = [growing.meta_row(number, "id")[1] for number in (0, 4, 2)]
    assert growing.number_after([None, *held]) == 5
    assert growing.number_after([None]) == 1
    assert growing.meta_row(5, "id")[0] == META_KEY


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12), st.floats(1, 10), st.floats(100, 1e6))
def test_a_plan_never_shrinks_and_is_a_multiple_and_has_partitions_for_its_workers(
    loads: list[float], growth: float, capacity: float
):
    made = plan(len(loads), [TopicLoad("t", tuple(loads), 100, 0)], [], capacity_per_s=capacity, growth=growth)
    assert made.to >= len(loads)
    assert made.to % len(loads) == 0
    assert made.workers * capacity >= sum(loads) * growth * 0.999
    assert made.workers == 1 or made.to >= made.workers * SPREAD
    assert not made.grow or made.to - len(loads) < made.workers * SPREAD


def test_a_plan_counts_what_has_to_be_read_back_and_says_so():
    made = plan(4, [TopicLoad("t", (1.0,) * 4, 100, 0)], [TableSize("changelog", 12_000_001)])
    assert made.to == 12
    assert "12,000,001" in " ".join(made.why)
    assert not plan(4, [TopicLoad("t", (1.0,) * 4, 100, 0)], [TableSize("changelog", 6_000_000)]).grow
