"""Rows of a table whose source is given more partitions: where each belongs then, and what its position says. Pure.

Keys move when partitions are added, and a row has to be in the partition that its records will be in. There, its old
position means nothing: it is an offset of another partition. So all positions start over above every older one, with a
new number in front (see `tables.incarnations`), at the last offset of the row's new partition: nothing was left to fold
when the topics grew, so all that stood in any partition then is in the rows, and a record that comes again is a repeat.

    position = number << INCARNATION_SHIFT | (the partition's end when it grew) - 1

A partition that is new ended at 0; its rows' positions are one below its first record's. A window that was announced
stays announced. Rows of kinds that are merged when they are read belong to no partition: window shares stay where they
are, and an experiment's results are added up anew from the units that are in the partition now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from contracts.names import TenantId
from contracts.routing import subject_key
from tables import ab_results, ab_units, erasure_marks
from tables.ab_contributions import contribution_of
from tables.ab_results import ASSIGNED, AbState
from tables.fold import TableKind
from tables.incarnations import FORMAT, META_KEY, META_KIND
from tables.row_codec import Row, RowCodec
from tables.rows import INCARNATION_SHIFT, WindowKey, header_of
from tables.store import Change

# Kind of an alert's state, whose key is [kind, tenant, tool] (agents.alert_rules).
ALERT_KIND = "al"

Rows = Mapping[bytes, bytes]
# The partition that a key of a source topic has among so many.
Partitioner = Callable[[bytes, int], int]


class UnknownKind(ValueError):  # noqa: N818 - named like the rest of our errors
    """A row of a kind that this release does not know: it cannot say where the row belongs."""


@dataclass(frozen=True)
class Grown:
    """How a table's source grew: partitions `before` and `after`, and its ends then."""

    before: int
    after: int
    number: int
    ends: Mapping[int, int]

    def position(self, partition: int) -> int:
        """The position of every row of a partition."""
        return (self.number << INCARNATION_SHIFT) + self.ends.get(partition, 0) - 1

    def has(self, raw: bytes) -> bool:
        """Whether a row says already what it has to."""
        return header_of(raw).position >= (self.number << INCARNATION_SHIFT) - 1


@dataclass
class Moves:
    """What becomes of one partition's rows.

    `away` goes first, to other partitions; only when that is durable, `here` is written, which deletes what moved.
    """

    away: dict[int, list[Change]] = field(default_factory=lambda: defaultdict(list))
    here: list[Change] = field(default_factory=list)


def number_after(meta_rows: Iterable[bytes | None]) -> int:
    """The number to go on with: above that of every partition."""
    return max((header_of(raw).position for raw in meta_rows if raw is not None), default=0) + 1


def meta_row(number: int, source: str) -> Change:
    """The meta row that says so; `source` is the source topic's id."""
    return META_KEY, msgspec.msgpack.encode((FORMAT, number, 0, source))


def moves(
    partition: int, rows: Rows, grown: Grown, kinds: Mapping[str, TableKind[Any]], partition_for: Partitioner
) -> Moves:
    """Where the rows of a partition go; rows that were moved before are left alone.

    `kinds` by the kind in a row's key. A row that is not where its key says came from records with keys of somebody
    else's making, and stays where those are.

    Raises:
        UnknownKind: nothing may be moved by this release.
    """
    found = Moves()
    marks = erasure_marks.found_in(rows.items())
    over = [(erasure_marks.key_of(tenant), None) for tenant in marks]
    for key, raw in rows.items():
        if key == META_KEY or (key, None) in over or grown.has(raw):
            continue
        if erasure_marks.is_erased(marks, key, raw):
            found.here.append((key, None))
            continue
        source_key = _source_key(key, kinds)
        target = partition
        if source_key is not None and partition_for(source_key, grown.before) == partition:
            target = partition_for(source_key, grown.after)
        change = (key, rewritten(raw, grown.position(target)))
        if target == partition:
            found.here.append(change)
        else:
            found.away[target].append(change)
            found.here.append((key, None))
    # Last: positions start over, and what was erased is gone by now.
    found.here += over
    return found


def _source_key(raw: bytes, kinds: Mapping[str, TableKind[Any]]) -> bytes | None:
    """The Kafka key of a row's records; None: records with other keys are in it too."""
    kind, *parts = msgspec.msgpack.decode(raw)
    if kind == META_KIND:
        return None
    if kind == ALERT_KIND:
        tenant, subject = parts[0], parts[1:]
    elif kind in kinds:
        tenant, subject = parts[1], parts[2:]
        if kinds[kind].merged_when_read:
            return None
    else:
        raise UnknownKind(f"a row of kind {kind!r} is of a newer release: grow the topics with that one")
    return subject_key(TenantId(tenant), subject[0])


def rewritten(raw: bytes, position: int) -> bytes:
    """A row with another position, announced as it was."""
    written, was, announced, *fields = msgspec.msgpack.decode(raw)
    return msgspec.msgpack.encode((written, position, position if announced >= was else announced, *fields))


class Results:
    """An experiment table's results, added up from the units of one partition."""

    def __init__(self, kind: TableKind[AbState]) -> None:
        self._kind = kind
        self._codec = RowCodec(kind)
        self._units = RowCodec(ab_units.KIND)

    def rebuilt(self, rows: Rows, position: int) -> Iterator[Change]:
        """The rows of results that belong to a partition's units; others that it has are left without content."""
        states: dict[WindowKey, AbState] = defaultdict(self._kind.fold.empty)
        for key, raw in rows.items():
            unit = self._units.decode_key(key)
            if unit is not None:
                _count(states, unit.tenant_id, self._units.decode(raw).state)
        for key in rows:
            result = self._codec.decode_key(key)
            if result is not None:
                states.setdefault(result, self._kind.fold.empty())
        for result, state in states.items():
            yield self._codec.encode_key(result), self._codec.encode(Row(state, position, -1))


def _count(states: Mapping[WindowKey, AbState], tenant_id: TenantId, unit: ab_units.Unit) -> None:
    for experiment, enrolment in unit.items():
        at = enrolment.standing
        if at is None:
            continue
        place = (experiment, at.epoch, at.arm)
        states[WindowKey(tenant_id, ab_results.subject_of(*place, ASSIGNED), 0)].assign(1, conflict=at.conflict)
        for (metric, kind), outcomes in enrolment.outcomes.items():
            share = contribution_of(kind, outcomes.values(), at.since_ms)
            states[WindowKey(tenant_id, ab_results.subject_of(*place, metric), 0)].change(kind, None, share)
