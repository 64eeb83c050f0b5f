"""What a partition of experiments refuses, and that neither flushes nor restarts have a say in it."""

from __future__ import annotations

import pytest

from agents.experiments import ROWS_BYTES
from contracts.names import TenantId
from runtime.settings import Settings
from runtime.settings_tables import AbResultsSettings
from tables import ab_results
from tables.ab_partition import AbPartition, Folded
from tables.ab_units import Exposure, Observation, Outcome, UnitEvent, id_of
from tables.store import MemoryStore

KIND = ab_results.kind(Settings())
TENANT = TenantId("t1")
LONG = "e" * 256


def partition(store: MemoryStore, *, most_outcomes: int = 1000, batch_bytes: int = ROWS_BYTES) -> AbPartition:
    return AbPartition(0, KIND, store, most_outcomes=most_outcomes, batch_bytes=batch_bytes)


def outcome(number: int, *, experiment: str = "x", metric: str = "m", at_ms: int = 5) -> Observation:
    return Observation(experiment, metric, "mean", id_of(str(number)), Outcome(at_ms, 1.0, 0.0))


def flush(rows: AbPartition, store: MemoryStore) -> None:
    for batch in rows.take().batches:
        store.write(0, batch)
    rows.settled()


def folded(events: list[UnitEvent], *, flush_every: int, batch_bytes: int) -> tuple[list[Folded], MemoryStore]:
    store = MemoryStore()
    rows = partition(store, batch_bytes=batch_bytes)
    became = []
    for position, event in enumerate(events):
        became.append(rows.fold(TENANT, "u1", event, position))
        if position % flush_every == flush_every - 1:
            flush(rows, store)
    flush(rows, store)
    return became, store


def test_all_outcomes_of_a_unit_that_fit_are_counted_however_many_come_in_one_flush():
    events: list[UnitEvent] = [outcome(n, experiment=LONG, metric=LONG) for n in range(800)]
    became, _ = folded(events, flush_every=10_000, batch_bytes=ROWS_BYTES)
    assert set(became) == {Folded.COUNTED}


def test_as_many_outcomes_as_can_be_set_fit_one_batch():
    most = AbResultsSettings(unit_outcomes=10_000).unit_outcomes
    with pytest.raises(ValueError, match="10000"):
        AbResultsSettings(unit_outcomes=most + 1)
    store = MemoryStore()
    rows = partition(store, most_outcomes=most)
    became = {rows.fold(TENANT, "u1", outcome(n), n) for n in range(most)}
    assert became == {Folded.COUNTED}
    assert rows.fold(TENANT, "u1", outcome(most), most) is Folded.TOO_MANY
    flush(rows, store)
    # With room for the results of both arms, when an exposure moves the unit.
    assert max(len(raw) for _, raw in store.items(0)) < ROWS_BYTES / 2


@pytest.mark.parametrize("flush_every", [1, 7, 10_000])
def test_what_is_too_large_does_not_depend_on_the_flushes(flush_every: int):
    events: list[UnitEvent] = [Exposure("x", 0, f"{n:03}{LONG[:200]}", n) for n in range(200)]
    alone, expected = folded(events, flush_every=3, batch_bytes=20_000)
    assert {Folded.COUNTED, Folded.TOO_LARGE} == set(alone)
    became, store = folded(events, flush_every=flush_every, batch_bytes=20_000)
    assert became == alone
    assert dict(store.items(0)) == dict(expected.items(0))


def test_what_was_refused_stays_refused_when_it_comes_again_under_a_higher_limit():
    store = MemoryStore()
    rows = partition(store, most_outcomes=1)
    events: list[tuple[str, UnitEvent]] = [
        ("u1", Exposure("x", 0, "a", 1)),
        ("u1", outcome(1)),
        ("u1", outcome(2)),
        ("u2", Exposure("x", 0, "a", 1)),
        ("u2", outcome(3)),
    ]
    became = [rows.fold(TENANT, unit, event, position) for position, (unit, event) in enumerate(events)]
    assert became[2] is Folded.TOO_MANY
    flush(rows, store)
    before = dict(store.items(0))
    restarted = partition(store, most_outcomes=1000)
    again = [restarted.fold(TENANT, unit, event, position) for position, (unit, event) in enumerate(events)]
    assert set(again) == {Folded.REPEAT}
    flush(restarted, store)
    assert dict(store.items(0)) == before
