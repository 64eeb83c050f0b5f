"""How far back the relay begins again when Redis has lost entries. Pure.

Redis loses a suffix: with everysec the last second before a crash, with a failover what had not reached the replica,
with an emptied disk all. Entry and marker of a row are written together, so they vanish together: rows that are
published again are no-ops for Redis where it still has them.

    notes       n1 ... n2 ... n3 ... n4 | crash       each: PostgreSQL's time, and the highest id of each stream
    Redis now   ids of n2 <= its own < ids of n3  =>  nothing that was published before n2 is lost

What a mirror had brought to Kafka before needs not come again either, whatever Redis lost: Kafka has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.lag import StageLag

# A row is marked, by PostgreSQL's clock, after it is in Redis; this is for a clock that was set back, or another's.
MARGIN = timedelta(seconds=2)
# Notes are told apart by the second at first, by the minute later.
FINE = timedelta(minutes=2)
COARSE_S = 60


@dataclass(frozen=True)
class Note:
    """The highest id of each stream, read after `at`, and until when all was in Kafka (None: nobody said)."""

    at: datetime
    last_ids: Mapping[str, str]
    mirrored_to: datetime | None = None


def went_back(note: Note, last_ids: Mapping[str, str]) -> bool:
    """Whether a stream has come less far than at the note; one that is not named has come nowhere."""
    return any(place(last_ids.get(stream, "0-0")) < place(at) for stream, at in note.last_ids.items())


def lost_since(notes: Sequence[Note], last_ids: Mapping[str, str]) -> datetime | None:
    """From which time of marking on rows may be lost; None when nothing can be known, as there is no note.

    Args:
        notes: newest first.
        last_ids: the highest ids now.
    """
    if not notes:
        return None
    kept = next((each for each in notes if not went_back(each, last_ids)), notes[-1])
    since = max(kept.at, notes[0].mirrored_to or kept.at)
    return since - MARGIN


def mirrored_to(at: datetime, told: Sequence[StageLag | None], wall_s: float) -> datetime | None:
    """Until when all that was published is in Kafka, as of `at`; None unless each stream's mirror has said so.

    Args:
        at: now, by PostgreSQL's clock.
        told: what the mirror of each stream that was ever written said last.
        wall_s: now, by the clock that mirrors tell the time by.
    """
    views = [each for each in told if each is not None]
    if not views or len(views) < len(told):
        return None
    behind_s = max(max(0.0, wall_s - each.at_s) + each.oldest_s for each in views)
    return at - timedelta(seconds=behind_s) - MARGIN


def superfluous(times: Iterable[datetime], now: datetime, history_s: float) -> list[datetime]:
    """Which notes can go: older than the history, and of older minutes all but the first.

    One is kept beyond the history, so that all of it is covered.
    """
    begin = now - timedelta(seconds=history_s)
    going: list[datetime] = []
    last_kept: datetime | None = None
    newest_old: datetime | None = None
    for at in sorted(times):
        if at < begin:
            if newest_old is not None:
                going.append(newest_old)
            newest_old = last_kept = at
        elif at < now - FINE and last_kept is not None and _minute(at) == _minute(last_kept):
            going.append(at)
        else:
            last_kept = at
    return going


def place(entry_id: str) -> tuple[int, int]:
    """An entry id as numbers that can be compared."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // COARSE_S
