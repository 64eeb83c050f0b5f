"""What becomes of each row of a batch: published, buried, parked or held. Pure.

    waiting ----> published     nothing stands before it, its tenant is neither paused nor over its quota
       |  ^
       |  +------ held          its tenant is paused or over its quota, or a held row of its aggregate is before it;
       |                        blocked: behind a stop with policy `block`, until that is lifted
       +--------> buried        it breaks its contract; by policy that stops its aggregate
       +--------> parked        behind a stop with policy `park`: it follows the buried row into the dead letters

A stop stands for one buried row. It goes when that row is published after all, or when its letter is closed otherwise
(`streams.hold_table`). Of rows of one aggregate, none passes one that is held, or that a stop keeps back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from runtime.settings_relay import Poison

# Aggregate type and id.
Aggregate = tuple[str, str]
# Where a row that was requeued from the dead letters waits for its turn; no tenant has this name.
NO_QUEUE = ""


class Fate(StrEnum):
    """See above."""

    PUBLISH = "publish"
    BURY = "bury"
    PARK = "park"
    HOLD = "hold"


class Place(NamedTuple):
    """Where a held row stands: in the queue of a tenant, or blocked and in none."""

    queue: str
    blocked: bool


class Waiting(NamedTuple):
    """A claimed row. `tenant_id` is None when its payload breaks its contract; `poison` is its stream's policy."""

    id: int
    aggregate: Aggregate
    tenant_id: str | None
    poison: Poison


class Ahead(NamedTuple):
    """The first row of an aggregate, outside a batch, that is held or stops it. `what`: its queue, or its policy."""

    id: int
    what: str


@dataclass(frozen=True)
class Ground:
    """What a batch finds in front of it, read under the locks of its shards.

    `held` and `stopped` are about rows of the batch itself: where they stand, and the policies of the stops that they
    are; `first_held` and `first_stop` about the first ones of each aggregate that are not in the batch.
    """

    held: Mapping[int, Place] = field(default_factory=dict)
    stopped: Mapping[int, Poison] = field(default_factory=dict)
    first_held: Mapping[Aggregate, Ahead] = field(default_factory=dict)
    first_stop: Mapping[Aggregate, Ahead] = field(default_factory=dict)


class Verdict(NamedTuple):
    """A row's fate. `place` of a held row; `stop`: the policy by which a buried row stops what is behind it."""

    fate: Fate
    place: Place | None = None
    stop: Poison | None = None


def judge(
    rows: Sequence[Waiting], ground: Ground, paused: frozenset[str], granted: Mapping[str, int] | None = None
) -> list[Verdict]:
    """The verdict on each row of a batch, which is in order of id.

    Args:
        rows: what was claimed.
        ground: what stands before it.
        paused: tenants whose rows are held.
        granted: how many rows of a tenant may be published; one that is not named is not limited, nor is any by None.
    """
    left = dict(granted or {})
    stops: dict[Aggregate, Poison] = {}
    queues: dict[Aggregate, str] = {}
    verdicts = []
    for row in rows:
        stop = stops.get(row.aggregate, _stop_before(row, ground))
        queue = queues.get(row.aggregate, _queue_before(row, ground))
        verdict = _verdict(row, stop, queue, paused, left)
        if verdict.fate is Fate.PUBLISH and row.tenant_id in left:
            left[row.tenant_id] -= 1
        if verdict.place is not None and not verdict.place.blocked:
            queues.setdefault(row.aggregate, verdict.place.queue)
        own_stop = verdict.stop or (ground.stopped.get(row.id) if verdict.fate is Fate.HOLD else None)
        if own_stop is not None:
            stops.setdefault(row.aggregate, own_stop)
        verdicts.append(verdict)
    return verdicts


def published_by_tenant(rows: Iterable[Waiting], verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many rows of each tenant are to be published."""
    counts: dict[str, int] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict.fate is Fate.PUBLISH and row.tenant_id is not None:
            counts[row.tenant_id] = counts.get(row.tenant_id, 0) + 1
    return counts


def _stop_before(row: Waiting, ground: Ground) -> Poison | None:
    first = ground.first_stop.get(row.aggregate)
    if first is None or first.id > row.id:
        return None
    return "park" if first.what == "park" else "block"


def _queue_before(row: Waiting, ground: Ground) -> str | None:
    first = ground.first_held.get(row.aggregate)
    return None if first is None or first.id > row.id else first.what


def _verdict(
    row: Waiting, stop: Poison | None, queue: str | None, paused: frozenset[str], left: Mapping[str, int]
) -> Verdict:
    if stop == "block":
        return Verdict(Fate.HOLD, Place(row.tenant_id or NO_QUEUE, blocked=True))
    if row.tenant_id is None:
        return Verdict(Fate.BURY, stop=None if row.poison == "skip" else row.poison)
    if stop == "park":
        return Verdict(Fate.PARK, stop="park")
    if queue is not None:
        return Verdict(Fate.HOLD, Place(queue, blocked=False))
    if row.tenant_id in paused or left.get(row.tenant_id, 1) <= 0:
        return Verdict(Fate.HOLD, Place(row.tenant_id, blocked=False))
    return Verdict(Fate.PUBLISH)
