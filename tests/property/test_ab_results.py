"""Results of experiments are exact: whatever the order, the repeats, the batches, the crashes and the owners."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.settings import Settings
from tables import ab_results, ab_units
from tables.ab_partition import AbPartition, Folded
from tables.ab_results import AbFold, AbState
from tables.ab_units import UnitFold
from tables.row_codec import RowCodec
from tables.rows import WindowKey, newest
from tables.store import MemoryStore
from tests.support.ab_recount import LogRecord, differences, recount

START = datetime(2026, 1, 1, tzinfo=UTC)
KIND = ab_results.kind(Settings())
RESULTS, UNITS = RowCodec(KIND), RowCodec(ab_units.KIND)
# Small, so that a flush has several batches; the largest single change of these tests takes about 15 kB.
BATCH_BYTES = 20_000

Batch = tuple[tuple[bytes, bytes | None], ...]


def drawn(random: Random) -> dict[str, Any]:
    """An event of one of few units, so that they meet; some outcomes have no event id, some ids have two contents."""
    event: dict[str, Any] = {
        "version": "1.0",
        "tenant_id": random.choice(["t1", "t2"]),
        "experiment": random.choice(["x", "y"]),
        "unit": random.choice(["u1", "u2", "u3", "u4"]),
        "ts": (START + timedelta(seconds=random.randint(0, 12))).isoformat(),
    }
    if random.random() < 0.4:
        arm, epoch = random.choice(["control", "b", "c"]), random.choice([0, 0, 1])
        return event | {"event": "ab_test_assignment", "arm": arm, "epoch": epoch}
    if random.random() < 0.8:
        event["event_id"] = f"e{random.randint(0, 7)}"
    # The last one disagrees with the first about the metric's kind.
    metric, kind = random.choice(
        [("spend", "mean"), ("ctr", "ratio"), ("bought", "binary"), ("wait", "quantile"), ("spend", "binary")]
    )
    # A multiple of 2**-40: a float that is a whole number of steps, as all but tiny ones are.
    value = random.choice([random.randint(-(2**50), 2**50) / 2**40, 1e9 + random.randint(0, 20), -0.0])
    if kind == "binary":
        value = random.randint(0, 1)
    event |= {"event": "ab_test_outcome", "metric": metric, "kind": kind, "value": value}
    return event | ({"denominator": abs(value) + 1} if kind == "ratio" else {})


def events_of(seed: int, count: int) -> list[dict[str, Any]]:
    random = Random(seed)
    return [drawn(random) for _ in range(count)]


events = st.builds(events_of, st.integers(0, 2**32), st.integers(0, 60))


def log_of(found: list[dict[str, Any]], partition: int = 0) -> list[LogRecord]:
    return [LogRecord(partition, offset, json.dumps(event).encode()) for offset, event in enumerate(found)]


class Worker:
    """A partition with its store and its changelog of batches, as the runner drives it."""

    def __init__(self, changelog: list[Batch] | None = None) -> None:
        self.changelog: list[Batch] = [] if changelog is None else changelog
        self.restart()

    def restart(self) -> None:
        self.store = MemoryStore()
        for batch in self.changelog:
            self.write(batch)
        self.partition = AbPartition(0, KIND, self.store, most_outcomes=1000, batch_bytes=BATCH_BYTES, cache_bytes=1)

    def write(self, batch: Batch) -> None:
        for key, value in batch:
            assert value is not None
            self.store.write(0, [(key, newest(self.store.get(0, key), value))])

    def fold(self, log: list[LogRecord]) -> None:
        for record in log:
            samples = ab_units.samples([record.value], "strict")
            assert not samples.bad
            sample = samples.values[0]
            event = ab_units.event_of(sample, partial(str, f"at {record.partition}/{record.offset}"))
            folded = self.partition.fold(sample.tenant_id, sample.unit, event, record.offset)
            assert folded in (Folded.COUNTED, Folded.REPEAT)

    def take(self) -> list[Batch]:
        batches = list(self.partition.take().batches)
        for batch in batches:
            assert sum(len(key) + len(value or b"") + 64 for key, value in batch) <= BATCH_BYTES
        return batches

    def append(self, batches: list[Batch]) -> None:
        for batch in batches:
            self.changelog.append(batch)
            self.write(batch)

    def flush(self) -> None:
        self.append(self.take())
        self.partition.settled()

    def states(self) -> dict[WindowKey, AbState]:
        rows = ((RESULTS.decode_key(key), raw) for key, raw in self.store.items(0))
        return {key: RESULTS.decode(raw).state for key, raw in rows if key is not None}


def merged(workers: list[Worker]) -> dict[WindowKey, AbState]:
    fold, out = AbFold(), dict[WindowKey, AbState]()
    for worker in workers:
        for key, state in worker.states().items():
            out[key] = fold.merge(out.get(key, fold.empty()), state)
    return out


def bits(states: dict[WindowKey, AbState]) -> dict[WindowKey, Any]:
    return {key: AbFold().pack(state) for key, state in states.items() if not state.is_empty}


@given(events, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_order_repeats_and_batches_change_no_bit_and_all_equals_a_recount(found: list[dict[str, Any]], random: Random):
    # Without an event id only the record tells an outcome from others: a repeat is another outcome then.
    again = [event for event in found if event["event"] == "ab_test_assignment" or "event_id" in event]
    shuffled = found + random.sample(again, random.randint(0, len(again)))
    random.shuffle(shuffled)
    plain, other = Worker(), Worker()
    plain.fold(log_of(found))
    plain.flush()
    for record in log_of(shuffled):
        other.fold([record])
        if random.random() < 0.3:
            other.flush()
    other.flush()
    assert differences(plain.states(), recount(log_of(found))) == []
    assert bits(other.states()) == bits(plain.states())


@given(events, st.data())
@settings(max_examples=150, deadline=None)
def test_rows_equal_a_recount_after_crashes_even_between_the_batches_of_a_flush(
    found: list[dict[str, Any]], data: st.DataObject
):
    log, worker, committed = log_of(found), Worker(), 0
    while committed < len(log):
        stop = data.draw(st.integers(committed + 1, len(log)))
        worker.fold(log[committed:stop])
        batches = worker.take()
        written = data.draw(st.integers(0, len(batches)))
        worker.append(batches[:written])
        if written == len(batches) and data.draw(st.booleans()):
            worker.partition.settled()
            committed = stop
        else:
            worker.restart()
            if data.draw(st.booleans()):
                break
    worker.fold(log[committed:])
    worker.flush()
    worker.restart()
    assert differences(worker.states(), recount(log)) == []


@given(events, st.data())
@settings(max_examples=150, deadline=None)
def test_a_paused_owner_that_writes_late_does_no_harm(found: list[dict[str, Any]], data: st.DataObject):
    """Two owners fold from the same state; the batches of the first reach the changelog anywhere among the second's."""
    log = log_of(found)
    begin = data.draw(st.integers(0, len(log)))
    base = Worker()
    base.fold(log[:begin])
    base.flush()
    owners = [Worker(list(base.changelog)) for _ in range(2)]
    ends = [data.draw(st.integers(begin, len(log))) for _ in owners]
    for owner, end in zip(owners, ends, strict=True):
        place = begin
        while place < end:
            stop = data.draw(st.integers(place + 1, end))
            owner.fold(log[place:stop])
            owner.flush()
            place = stop
    late, changelog = owners[0].changelog[len(base.changelog) :], owners[1].changelog
    at = len(base.changelog)
    for batch in late:
        at = data.draw(st.integers(at, len(changelog)))
        changelog.insert(at, batch)
        at += 1
    third = Worker(changelog)
    assert differences(third.states(), recount(log[: max(ends)])) == []
    third.fold(log[begin:])
    third.flush()
    assert differences(third.states(), recount(log)) == []


@given(events, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_partitions_merged_in_any_order_are_one(found: list[dict[str, Any]], count: int, random: Random):
    together = Worker()
    together.fold(log_of(found))
    together.flush()
    workers = []
    for number in range(count):
        worker = Worker()
        worker.fold([r for r in log_of(found) if hash_of(json.loads(r.value)) % count == number])
        worker.flush()
        workers.append(worker)
    random.shuffle(workers)
    assert bits(merged(workers)) == bits(together.states())


def hash_of(event: dict[str, Any]) -> int:
    return int(event["unit"][1:]) + int(event["tenant_id"][1:])


@given(events)
@settings(max_examples=80, deadline=None)
def test_units_and_results_survive_their_encoding(found: list[dict[str, Any]]):
    worker = Worker()
    worker.fold(log_of(found))
    worker.flush()
    for raw_key, raw in worker.store.items(0):
        for codec in (RESULTS, UNITS):
            if codec.decode_key(raw_key) is not None:
                assert codec.encode(codec.decode(raw)) == raw  # type: ignore[arg-type]


@given(events, events)
@settings(max_examples=80, deadline=None)
def test_merging_units_is_a_union(left: list[dict[str, Any]], right: list[dict[str, Any]]):
    fold = UnitFold()

    def unit_events(found: list[dict[str, Any]], name: str) -> list[ab_units.UnitEvent]:
        values = ab_units.samples([json.dumps(event).encode() for event in found], "strict").values
        return [ab_units.event_of(value, partial(str, f"{name}{i}")) for i, value in enumerate(values)]

    def unit(found: list[dict[str, Any]], name: str) -> ab_units.Unit:
        state = fold.empty()
        fold.add(state, unit_events(found, name))
        return state

    one, other = unit(left, "l"), unit(right, "r")
    both = fold.pack(fold.merge(one, other))
    assert both == fold.pack(fold.merge(other, one))
    assert both == fold.pack(fold.merge(fold.merge(one, other), one))
    fold.add(one, unit_events(right, "r"))
    assert fold.pack(one) == both
