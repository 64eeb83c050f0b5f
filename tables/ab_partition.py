"""One partition of the experiments topic: units' rows, and this partition's share of the results, always in step.

Where it stands: `agents.experiments` hands it decoded events and writes the batches that it makes. Pure.

Exactness. Write U for the rows of units and R for the rows of results. R is at all times the sum of what the units in U
contribute. An event changes a unit and at most a few rows of R (the unit's old and new arms), and the row's position
becomes that of the event's record.

1. A *batch* holds all rows of U and R that changed since the last batch, as they stand after a certain record: the
   state of a prefix of the log. It is smaller than one record batch of the changelog, which is there whole or not at
   all. A flush has as many batches as it needs: the batch is sealed before an event that would make it too large.
2. A row's bytes follow from its position alone: a row that is touched gets the record's position even where the change
   adds up to nothing, so no two states of a row have the same position.
3. So whatever batches the changelog has, by whichever owner and in whatever order, keeping the highest position of each
   row gives the state of the longest prefix that any batch stands for: its writer had recovered all rows up to some
   record, and its batches have all that changed from there on.
4. After a crash the records behind the committed offset come again. Up to that prefix each is known to its unit
   (events are kept by id, the earliest exposure wins) and changes nothing; behind it, all are folded for the first
   time. A crash between two batches of a flush is no different.

A unit's row also holds its position as a guard: records at or below it are repeats, whatever their ids.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from tables import ab_units
from tables.ab_contributions import NONE_YET, Contribution, contribution_of, grown
from tables.ab_results import ASSIGNED, subject_of
from tables.ab_rows import SealedRows
from tables.ab_units import QUANTILE, Enrolment, Exposure, Metric, Observation, Standing, UnitEvent, outcome_count
from tables.rows import WindowKey

if TYPE_CHECKING:
    from contracts.experiments import MetricKind
    from contracts.names import TenantId
    from tables.ab_results import AbState
    from tables.fold import TableKind
    from tables.store import Change, RowStore

CACHE_BYTES = 64 * 1024 * 1024
# What a record adds to a batch, and what MessagePack adds to the texts and numbers of a row without a histogram: 14
# numbers of at most 45 bytes for each of two kinds, and a few small ones.
_RECORD_BYTES = 64
_RESULT_BYTES = 1500
_BUCKET_BYTES = 12
_EVENT_BYTES = 96
_CHARACTER_BYTES = 4
# Contributions that are remembered, so that an outcome costs the same whether it is a unit's tenth or thousandth.
_MOST_SHARES = 50_000


class Folded(Enum):
    """What became of an event."""

    COUNTED = "counted"
    REPEAT = "repeat"
    TOO_MANY = "too many"
    """The unit has as many outcomes as are kept."""
    TOO_LARGE = "too large"
    """The rows that it changes do not fit one batch."""


class Taken(NamedTuple):
    """A flush: batches to be written in this order, each whole, and which results are in them."""

    batches: tuple[tuple[Change, ...], ...]
    results: frozenset[WindowKey]


class _Change(NamedTuple):
    """An event about to be taken in: the unit's row, what was known of it, and where it belongs before and after."""

    key: WindowKey
    event: UnitEvent
    enrolment: Enrolment
    before: Standing | None
    after: Standing | None

    @property
    def moves(self) -> bool:
        """Whether the unit's outcomes have to be counted elsewhere, or from another time on."""
        return self.before != self.after

    def result(self, at: Standing, metric: str) -> WindowKey:
        """The row of an arm's metric."""
        subject = subject_of(self.event.experiment, at.epoch, at.arm, metric)
        return WindowKey(self.key.tenant_id, subject, 0)


class AbPartition:
    """The rows of one partition; `number` is both the source's and the changelog's partition.

    Args:
        kind: the results' rows.
        most_outcomes: kept for one unit.
        batch_bytes: no batch is larger.
    """

    def __init__(
        self,
        number: int,
        kind: TableKind[AbState, tuple[MetricKind, Contribution]],
        store: RowStore,
        *,
        most_outcomes: int,
        batch_bytes: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.number = number
        self._units = SealedRows(ab_units.KIND, number, store, cache_bytes // 2)
        self._results = SealedRows(kind, number, store, cache_bytes // 2)
        self._most_outcomes = most_outcomes
        self._batch_bytes = batch_bytes
        self._batches: list[tuple[Change, ...]] = []
        self._shares: dict[tuple[WindowKey, str, Metric], Contribution] = {}

    def fold(self, tenant_id: TenantId, unit: str, event: UnitEvent, position: int) -> Folded:
        """Take in the event of the record at `position`; records come in order."""
        key = WindowKey(tenant_id, (unit,), 0)
        row = self._units.row(key)
        enrolment = row.state.get(event.experiment) or Enrolment()
        if position <= row.position or enrolment.knows(event):
            return Folded.REPEAT
        if enrolment.grows_by(event) and outcome_count(row.state) >= self._most_outcomes:
            return Folded.TOO_MANY
        change = _Change(key, event, enrolment, enrolment.standing(), enrolment.standing(_exposure(event)))
        bounds = self._result_bounds(change)
        if not self._make_room(change, bounds):
            return Folded.TOO_LARGE
        self._units.touch(key, position, self._unit_bound(change)).state[event.experiment] = enrolment
        for result, bound in bounds.items():
            self._results.touch(result, position, bound)
        if change.moves:
            self._move(change)
        elif isinstance(event, Observation) and change.after is not None:
            self._count(change, event, change.after)
        else:
            enrolment.add(event)
        return Folded.COUNTED

    def take(self) -> Taken:
        """What is to be written now; called again only after `settled`."""
        self._seal()
        self._units.take()
        batches, self._batches = self._batches, []
        return Taken(tuple(batches), self._results.take())

    def settled(self) -> None:
        """What was taken is written."""
        self._units.settle()
        self._results.settle()
        if len(self._shares) > _MOST_SHARES:
            self._shares.clear()

    # --- changing --------------------------------------------------------------------------------------------------

    def _move(self, change: _Change) -> None:
        """Add an exposure that is the first one now: all that the unit did goes to its arm, before or after it."""
        self._put(change, change.before, sign=-1)
        change.enrolment.add(change.event)
        self._put(change, change.after, sign=1)

    def _put(self, change: _Change, at: Standing | None, *, sign: int) -> None:
        """Put a unit into an arm's rows (sign 1) or take it out (-1)."""
        if at is None:
            return
        self._results.row(change.result(at, ASSIGNED)).state.assign(sign, conflict=at.conflict)
        for (metric, kind), outcomes in change.enrolment.outcomes.items():
            share = contribution_of(kind, outcomes.values(), at.since_ms)
            old, new = (None, share) if sign > 0 else (share, None)
            self._results.row(change.result(at, metric)).state.change(kind, old, new)
            self._shares.pop((change.key, change.event.experiment, (metric, kind)), None)

    def _count(self, change: _Change, event: Observation, at: Standing) -> None:
        """Add an outcome of a unit that has an arm, at a cost that does not grow with the outcomes that it has."""
        metric, kind = place = event.metric, event.kind
        state = self._results.row(change.result(at, metric)).state
        outcomes = change.enrolment.outcomes.get(place, {})
        had, replaces = bool(outcomes), event.id in outcomes
        if kind == QUANTILE and not replaces:
            change.enrolment.add(event)
            state.change(kind, NONE_YET if had else None, contribution_of(kind, (event.outcome,), at.since_ms))
            return
        known = change.key, event.experiment, place
        old = self._shares.get(known) or contribution_of(kind, outcomes.values(), at.since_ms)
        change.enrolment.add(event)
        if replaces:
            new = contribution_of(kind, change.enrolment.outcomes[place].values(), at.since_ms)
        else:
            new = grown(kind, old, event.outcome, at.since_ms)
        if kind != QUANTILE:
            self._shares[known] = new
        state.change(kind, old if had else None, new)

    # --- batches ---------------------------------------------------------------------------------------------------

    def _make_room(self, change: _Change, bounds: dict[WindowKey, int]) -> bool:
        """Seal the batch if it would become too large; False when the change is too large for a batch of its own."""
        unit_bound = self._unit_bound(change)
        if unit_bound + sum(bounds.values()) > self._batch_bytes:
            return False
        grows = unit_bound - self._units.bound(change.key)
        grows += sum(bound - self._results.bound(key) for key, bound in bounds.items())
        if self._units.changed_bytes + self._results.changed_bytes + grows > self._batch_bytes:
            self._seal()
        return True

    def _seal(self) -> None:
        batch = (*self._units.seal(), *self._results.seal())
        if batch:
            self._batches.append(batch)

    def _unit_bound(self, change: _Change) -> int:
        """At most how many bytes the unit's row takes with the event in it."""
        held = self._units.bound(change.key) or self._units.encoded_bytes(change.key) + _key_bound(change.key)
        return held + _EVENT_BYTES + _CHARACTER_BYTES * sum(len(part) for part in change.event if isinstance(part, str))

    def _result_bounds(self, change: _Change) -> dict[WindowKey, int]:
        """The rows of results that change, and at most how many bytes each takes then."""
        event, outcomes = change.event, change.enrolment.outcomes
        # How many values may come to a row's histogram.
        values: dict[str, int] = {ASSIGNED: 0} if change.moves else {}
        if isinstance(event, Observation):
            values[event.metric] = 1
        elif change.moves:
            for (metric, kind), kept in outcomes.items():
                values[metric] = values.get(metric, 0) + (len(kept) if kind == QUANTILE else 0)
        bounds: dict[WindowKey, int] = {}
        for at in [at for at in {change.before, change.after} if at is not None]:
            for metric, count in values.items():
                key = change.result(at, metric)
                histogram = self._results.row(key).state.histogram
                bounds[key] = _key_bound(key) + _RESULT_BYTES + _BUCKET_BYTES * (len(histogram) + count)
        return bounds


def _exposure(event: UnitEvent) -> Exposure | None:
    return event if isinstance(event, Exposure) else None


def _key_bound(key: WindowKey) -> int:
    texts = (key.tenant_id, *key.subject)
    return 2 * _RECORD_BYTES + _CHARACTER_BYTES * sum(map(len, texts))
