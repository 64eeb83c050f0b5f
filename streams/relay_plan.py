"""Where the relay looks next, how much it takes, how long it rests. Pure.

The outbox has no index besides its primary key, and an id may become visible long after higher ones (ids are given out
at insert, rows appear at commit). Looking at everything that young on each poll would cost more than publishing it, so
the table is looked at in three lanes:

    0 ........... sweep ........... late_from_id ....... late ....... fresh_id ....... fresh .......

    fresh   every poll. Up to `fresh_id`, every row was dealt with, and no id can appear any more: an event must not be
            published while an earlier one of its aggregate has an id that nobody can see yet. A history that is longer
            than STRETCH_IDS (the first start of all, ids that went back) is passed stretch by stretch: one look at all
            of it may take longer than a statement may.
    late    every 250 ms, at most 5 % of the time: ids younger than `young_s`, 50,000 at most, that committed late.
            Fewer where that takes more than 10 ms: a row on hold costs more to pass than one that is processed.
    sweep   every 10 s, at most 5 % of the time: one chunk of what is older, downwards, then from the top again: rows
            of a transaction that was open for longer, and rows that somebody set back by hand.

How that is known: when a look has found the highest id `top_id` in a snapshot with `xmax`, each transaction that was
given an id up to `top_id` has a number below `xmax`. Once a later snapshot's `xmin` has reached that `xmax`, they all
have ended, and what they committed can be seen. Only a transaction that had its id but not its number yet, an instant
between the two, escapes this: SETTLE_S is waited as well. A transaction that stays open longer than `young_s` is waited
for no more; its rows are found by the other lanes.

`low_id` follows `fresh_id` at a distance of `young_s`, and never passes a row that the late lane sees waiting. It is
kept in the database, so that a new relay does not begin at the first row. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

LATE_EVERY_S = 0.25
SWEEP_EVERY_S = 10.0
# How many ids the other lanes look at: as many as take LOOK_S, the longest that the fresh lane is to wait for them.
MOST_IDS = 50_000
LEAST_IDS = 2_000
LOOK_S = 0.01
# A lane that took t rests for 19 t: one part in twenty of the time.
_REST_RATIO = 19.0
_SAMPLE_EVERY_S = 1.0
# How many ids the fresh lane looks at in one statement where no more can appear: some seconds on a slow disk.
STRETCH_IDS = 500_000
_HIGHEST_ID = 2**63 - 1
# As `settled_id`: not one id is known to be the last of its kind yet.
_NOTHING_SETTLED = -1
# An instant in the server, unless its process is suspended right there.
SETTLE_S = 0.5
SHARDS = 64
# So many polls in a row find nothing before the pause begins to grow.
_PATIENT_POLLS = 50


class Lane(StrEnum):
    """Which part of the table is looked at."""

    FRESH = "fresh"
    LATE = "late"
    SWEEP = "sweep"
    # Not a part of the table: rows on hold, which no scan sees (`streams.hold_table`).
    HELD = "held"


class Scan(NamedTuple):
    """Look for rows with after_id < id <= up_to_id."""

    lane: Lane
    after_id: int
    up_to_id: int


class Seen(NamedTuple):
    """A row that waits: its shard (0..63) and the size of its payload."""

    id: int
    shard: int
    payload_bytes: int


class Found(NamedTuple):
    """What a scan found: the table's highest id, the lowest waiting one, its duration, and its snapshot's bounds.

    All transactions below `xmin` had ended; none at or above `xmax` had begun to write.
    """

    top_id: int
    first_id: int | None
    took_s: float
    xmin: int
    xmax: int


class Settling(NamedTuple):
    """Ids up to `top_id` can appear until every transaction below `xmax` has ended; noted at `at_s`."""

    top_id: int
    xmax: int
    at_s: float


@dataclass(frozen=True)
class ScanPlan:
    """What is known of the table; see above. `samples`: at which time `fresh_id` was where, oldest first."""

    low_id: int
    fresh_id: int
    samples: tuple[tuple[float, int], ...] = ()
    late_due_s: float = 0.0
    sweep_due_s: float = 0.0
    sweep_from_id: int = 0
    settled_id: int = 0
    settling: Settling | None = None
    look_ids: int = MOST_IDS

    @property
    def in_history(self) -> bool:
        """Whether the fresh lane is far from where ids can appear, or cannot know yet."""
        return self.settled_id == _NOTHING_SETTLED or self.settled_id > self.fresh_id + STRETCH_IDS

    @property
    def late_from_id(self) -> int:
        """Where the late lane begins and the sweep ends."""
        return max(self.low_id, self.fresh_id - self.look_ids)


def start(low_id: int, now_s: float) -> ScanPlan:
    """The plan of a relay that knows nothing but the stored hint."""
    return ScanPlan(
        low_id,
        low_id,
        late_due_s=now_s + LATE_EVERY_S,
        sweep_due_s=now_s + SWEEP_EVERY_S,
        settled_id=_NOTHING_SETTLED,
    )


def next_scan(plan: ScanPlan, now_s: float) -> Scan:
    """Where to look now. Lanes that are due go before the fresh one, which is always due."""
    late_from_id = plan.late_from_id
    if now_s >= plan.late_due_s and late_from_id < plan.fresh_id:
        return Scan(Lane.LATE, late_from_id, plan.fresh_id)
    if now_s >= plan.sweep_due_s and late_from_id > 0:
        upper = min(plan.sweep_from_id, late_from_id) or late_from_id
        return Scan(Lane.SWEEP, max(0, upper - plan.look_ids), upper)
    # Never past the end of a stretch that may hold a row of the same aggregate which is not dealt with.
    return Scan(Lane.FRESH, plan.fresh_id, plan.fresh_id + STRETCH_IDS if plan.in_history else _HIGHEST_ID)


def observe(plan: ScanPlan, scan: Scan, found: Found, now_s: float, young_s: float) -> ScanPlan:
    """The plan after `scan` found that."""
    rest_s = _REST_RATIO * found.took_s
    if scan.lane is not Lane.FRESH:
        plan = replace(plan, look_ids=_resized(plan.look_ids, found.took_s))
    if scan.lane is Lane.SWEEP:
        return replace(plan, sweep_from_id=scan.after_id, sweep_due_s=now_s + max(SWEEP_EVERY_S, rest_s))
    if scan.lane is Lane.LATE:
        plan = replace(plan, late_due_s=now_s + max(LATE_EVERY_S, rest_s))
        return _follow(plan, found.first_id, now_s - young_s)
    if found.top_id < plan.fresh_id:
        # The newest rows were deleted, or ids begin anew (TRUNCATE ... RESTART IDENTITY, a restore): look everywhere.
        return start(0, now_s)
    plan = _settled(plan, found, now_s, young_s)
    return _sampled(replace(plan, fresh_id=max(plan.fresh_id, min(plan.settled_id, _up_to(scan, found)))), now_s)


def shards_to_lock(seen: Iterable[Seen], last: Collection[int], *, more: bool) -> list[int]:
    """The shards with waiting rows, the one that has waited longest first.

    When there are `more` rows than seen, all others follow, those of the `last` batch at the end: what was seen may all
    be another relay's.
    """
    shards = dict.fromkeys(row.shard for row in seen)
    if more:
        shards |= dict.fromkeys(sorted(range(SHARDS), key=last.__contains__))
    return list(shards)


def take(seen: Iterable[Seen], shards: Iterable[int], most_rows: int, most_bytes: int) -> list[int]:
    """Ids of the rows to publish now: those of our shards, in order, up to that many and that much payload, but one.

    Cut from the end only: within an aggregate, which is within a shard, nothing is left out in between.
    """
    ours = frozenset(shards)
    ids: list[int] = []
    total_bytes = 0
    for row in seen:
        if row.shard not in ours:
            continue
        total_bytes += row.payload_bytes
        if len(ids) >= most_rows or (ids and total_bytes > most_bytes):
            break
        ids.append(row.id)
    return ids


def rows_to_take(batch_rows: int, failures: int) -> int:
    """How many rows to look at after that many failures in a row: half as many each time.

    A batch that is too much for what servers and machine can do within the transaction's timeout gets through in parts.
    """
    return max(1, batch_rows >> min(failures, 32))


def pause_s(empty_polls: int, *, poll_s: float, idle_poll_s: float) -> float:
    """How long to rest after that many polls in a row found nothing: `poll_s`, growing to `idle_poll_s`."""
    doublings = min(empty_polls // _PATIENT_POLLS, 32)
    return min(idle_poll_s, poll_s * 2.0**doublings)


def _resized(look_ids: int, took_s: float) -> int:
    """Half as many ids for a look that took too long, half more for one that took less than it may."""
    if took_s > 2 * LOOK_S:
        return max(LEAST_IDS, look_ids // 2)
    return min(MOST_IDS, look_ids * 3 // 2) if took_s < LOOK_S else look_ids


def _up_to(scan: Scan, found: Found) -> int:
    return min(found.top_id, scan.up_to_id) if found.first_id is None else found.first_id - 1


def _settled(plan: ScanPlan, found: Found, now_s: float, young_s: float) -> ScanPlan:
    """Move `settled_id` on when the transactions that were waited for have ended, and wait for the next ones."""
    settling = plan.settling
    if settling is not None:
        waited_s = now_s - settling.at_s
        if waited_s < young_s and (waited_s < SETTLE_S or found.xmin < settling.xmax):
            return plan
        plan = replace(plan, settled_id=max(plan.settled_id, settling.top_id))
    return replace(plan, settling=Settling(found.top_id, found.xmax, now_s))


def _sampled(plan: ScanPlan, now_s: float) -> ScanPlan:
    if plan.samples:
        at_s, fresh_id = plan.samples[-1]
        if fresh_id == plan.fresh_id or now_s < at_s + _SAMPLE_EVERY_S:
            return plan
    return replace(plan, samples=(*plan.samples, (now_s, plan.fresh_id)))


def _follow(plan: ScanPlan, first_id: int | None, old_s: float) -> ScanPlan:
    """Move `low_id` to where `fresh_id` was at `old_s`, but not past a row that waits."""
    old = [fresh_id for at_s, fresh_id in plan.samples if at_s <= old_s]
    if not old:
        return plan
    low_id = old[-1] if first_id is None else min(old[-1], first_id - 1)
    # The newest of the old samples stays: a row that waits now may be gone before the next one is old.
    return replace(plan, low_id=max(plan.low_id, low_id), samples=plan.samples[len(old) - 1 :])
