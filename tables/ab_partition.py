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

A dead letter that comes back has no position: it stands somewhere in the past. It is known to its unit by its id, and
the rows that it changes keep their positions (their revisions rise): they are the state of the same prefix, and of the
letter, and the owner writes them last.
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
        kind: TableKind[AbState],
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

    def fold(self, tenant_id: TenantId, unit: str, event: UnitEvent, position: int | None) -> Folded:
        """Take in the event of the record at `position`; records come in order. None: it is a letter's."""
        key = WindowKey(tenant_id, (unit,), 0)
        row = self._units.row(key)
        enrolment = row.state.get(event.experiment) or Enrolment()
        if (position is not None and position <= row.position) or enrolment.knows(event):
            return Folded.REPEAT
        if isinstance(event, Exposure):
            return self._fold_exposure(key, enrolment, event, position)
        if enrolment.grows_by(event) and outcome_count(row.state) >= self._most_outcomes:
            return Folded.TOO_MANY
        return self._fold_outcome(key, enrolment, event, position)

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

    def _fold_exposure(self, key: WindowKey, enrolment: Enrolment, event: Exposure, position: int | None) -> Folded:
        """Add an exposure. When it is the first one now, all that the unit did goes to its arm, before or after it."""
        before, after = enrolment.standing, enrolment.standing_with(event)
        places = [at for at in {before, after} if at is not None] if before != after else []
        bounds = {
            result: self._result_bound(result, count)
            for at in places
            for result, count in _results_of(key.tenant_id, event.experiment, enrolment, at).items()
        }
        claimed = self._claim(key, event, enrolment, bounds, position)
        if claimed is not Folded.COUNTED:
            return claimed
        if places:
            self._put(key, event.experiment, enrolment, before, sign=-1)
        enrolment.add(event)
        if places:
            self._put(key, event.experiment, enrolment, after, sign=1)
        return Folded.COUNTED

    def _put(self, key: WindowKey, experiment: str, enrolment: Enrolment, at: Standing | None, *, sign: int) -> None:
        """Put a unit into an arm's rows (sign 1) or take it out (-1)."""
        if at is None:
            return
        assigned = self._results.row(_result(key.tenant_id, experiment, at, ASSIGNED))
        assigned.state.assign(sign, conflict=at.conflict)
        for (metric, kind), outcomes in enrolment.outcomes.items():
            share = contribution_of(kind, outcomes.values(), at.since_ms)
            old, new = (None, share) if sign > 0 else (share, None)
            self._results.row(_result(key.tenant_id, experiment, at, metric)).state.change(kind, old, new)
            self._shares.pop((key, experiment, (metric, kind)), None)

    def _fold_outcome(self, key: WindowKey, enrolment: Enrolment, event: Observation, position: int | None) -> Folded:
        """Add an outcome, and count it into the arm's row when the unit has an arm."""
        at = enrolment.standing
        result = None if at is None else _result(key.tenant_id, event.experiment, at, event.metric)
        bounds = {} if result is None else {result: self._result_bound(result, 1)}
        claimed = self._claim(key, event, enrolment, bounds, position)
        if claimed is not Folded.COUNTED:
            return claimed
        if result is None or at is None:
            enrolment.add(event)
        else:
            self._count(key, enrolment, event, at, self._results.row(result).state)
        return Folded.COUNTED

    def _count(self, key: WindowKey, enrolment: Enrolment, event: Observation, at: Standing, state: AbState) -> None:
        """At a cost that does not grow with the outcomes that the unit has."""
        kind, place = event.kind, (event.metric, event.kind)
        outcomes = enrolment.outcomes.get(place, {})
        had, replaces = bool(outcomes), event.id in outcomes
        if kind == QUANTILE and not replaces:
            enrolment.add(event)
            state.change(kind, NONE_YET if had else None, contribution_of(kind, (event.outcome,), at.since_ms))
            return
        known = key, event.experiment, place
        old = self._shares.get(known) or contribution_of(kind, outcomes.values(), at.since_ms)
        enrolment.add(event)
        if replaces:
            new = contribution_of(kind, enrolment.outcomes[place].values(), at.since_ms)
        else:
            new = grown(kind, old, event.outcome, at.since_ms)
        if kind != QUANTILE:
            self._shares[known] = new
        state.change(kind, old if had else None, new)

    # --- batches ---------------------------------------------------------------------------------------------------

    def _claim(
        self, key: WindowKey, event: UnitEvent, enrolment: Enrolment, bounds: dict[WindowKey, int], position: int | None
    ) -> Folded:
        """Make room in the batch for the rows that change, and say that they do: COUNTED. Else nothing changes.

        `bounds` are of the results. A batch that would become too large is sealed before anything changes. What no
        batch would hold is TOO_LARGE, whatever is in this one. A result that holds later records has this one decided:
        it was refused then, and is not to be counted now that there is room (or a higher limit), at a position below.
        """
        if position is not None and any(self._results.row(result).position >= position for result in bounds):
            return Folded.REPEAT
        added, of_results = _bound_of(event), sum(bounds.values())
        unit_bound = self._units.bound(key) or self._units.encoded_bytes(key) + _key_bound(key)
        if unit_bound + added + of_results > self._batch_bytes and self._units.bound(key):
            # Bounds of single events add up to more than the row takes. Flushes must not decide what is refused.
            unit_bound = self._units.measure(key, _key_bound(key))
        needed = unit_bound + added + of_results
        if needed > self._batch_bytes:
            return Folded.TOO_LARGE
        # Rows that have changed already are counted twice here; that is looked at only where it matters.
        if self._units.changed_bytes + self._results.changed_bytes + needed > self._batch_bytes:
            counted = self._units.bound(key) + sum(map(self._results.bound, bounds))
            if self._units.changed_bytes + self._results.changed_bytes + needed - counted > self._batch_bytes:
                self._seal()
        self._units.touch(key, position, unit_bound + added).state[event.experiment] = enrolment
        for result, bound in bounds.items():
            self._results.touch(result, position, bound)
        return Folded.COUNTED

    def _seal(self) -> None:
        batch = (*self._units.seal(), *self._results.seal())
        if batch:
            self._batches.append(batch)

    def _result_bound(self, key: WindowKey, values: int) -> int:
        """At most how many bytes a row of results takes with so many more values in its histogram."""
        buckets = len(self._results.row(key).state.histogram) + values
        return _key_bound(key) + _RESULT_BYTES + _BUCKET_BYTES * buckets


def _result(tenant_id: TenantId, experiment: str, at: Standing, metric: str) -> WindowKey:
    """The row of an arm's metric."""
    return WindowKey(tenant_id, subject_of(experiment, at.epoch, at.arm, metric), 0)


def _results_of(tenant_id: TenantId, experiment: str, enrolment: Enrolment, at: Standing) -> dict[WindowKey, int]:
    """The rows that a unit is counted in where it stands, and how many values it has in the histogram of each."""
    values = {ASSIGNED: 0}
    for (metric, kind), outcomes in enrolment.outcomes.items():
        values[metric] = values.get(metric, 0) + (len(outcomes) if kind == QUANTILE else 0)
    return {_result(tenant_id, experiment, at, metric): count for metric, count in values.items()}


def _bound_of(event: UnitEvent) -> int:
    """At most how many bytes an event adds to its unit's row."""
    name = event.arm if isinstance(event, Exposure) else event.metric
    return _EVENT_BYTES + _CHARACTER_BYTES * (len(event.experiment) + len(name))


def _key_bound(key: WindowKey) -> int:
    return 2 * _RECORD_BYTES + _CHARACTER_BYTES * (len(key.tenant_id) + sum(map(len, key.subject)))
