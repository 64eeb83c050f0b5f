"""How far each stage is behind, as pure arithmetic that ends in `contracts.lag.Lag`.

Three stages, each told by whoever can see it: rows in the outbox (the relay), entries in the Redis streams
(their mirror), records that the workers have not finished (the mirror asks Kafka). Relay and mirrors leave
their part as JSON in one Redis hash; one mirror adds them up once a second. A part that was not renewed is
carried on with its age: a stage whose teller died is behind by at least that long.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TypeVar

from contracts.lag import Lag

# A part older than this says nothing of now, except that its teller is silent.
STALE_S = 5.0

Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True)
class StageLag:
    """One teller's view at `at_s` (Unix seconds): how many wait, and how long the oldest has."""

    count: int
    oldest_s: float
    at_s: float

    def to_json(self) -> str:
        """The form kept in Redis."""
        return json.dumps(asdict(self))


def parse_stage(text: str | None) -> StageLag | None:
    """The view in `text`; None when there is none or it cannot be read (an older version wrote it)."""
    try:
        found = json.loads(text or "null")
        return StageLag(int(found["count"]), float(found["oldest_s"]), float(found["at_s"]))
    except (ValueError, TypeError, KeyError):
        return None


def seen_now(stage: StageLag, now_s: float) -> StageLag:
    """The view as of now: since `at_s` the oldest has grown older, and after STALE_S silence itself is lag."""
    silent_s = max(0.0, now_s - stage.at_s)
    if stage.count > 0:
        return StageLag(stage.count, stage.oldest_s + silent_s, now_s)
    return StageLag(0, silent_s if silent_s > STALE_S else 0.0, now_s)


def total(stages: Iterable[StageLag | None], now_s: float) -> StageLag:
    """All views together: counts add up, the oldest is the oldest of all."""
    views = [seen_now(stage, now_s) for stage in stages if stage is not None]
    return StageLag(sum(v.count for v in views), max((v.oldest_s for v in views), default=0.0), now_s)


def records_behind(begins: Mapping[Place, int], ends: Mapping[Place, int], committed: Mapping[Place, int]) -> int:
    """How many records a consumer group has not finished in the partitions of `ends`.

    Without a commit it is behind from the beginning. A commit beyond the end (the log was emptied) counts
    from the beginning too; one before the beginning (retention overtook the group) only what is still there.
    """
    behind = 0
    for place, end in ends.items():
        begin = min(begins.get(place, 0), end)
        at = committed.get(place, begin)
        behind += end - (begin if at > end else max(at, begin))
    return behind


def lag_of(outbox: StageLag | None, streams: Iterable[StageLag | None], consumer_records: int, now_s: float) -> Lag:
    """What the page is told, as of `now_s` (Unix seconds)."""
    rows = total([outbox], now_s)
    entries = total(streams, now_s)
    return Lag(
        outbox_rows=rows.count,
        outbox_oldest_s=round(rows.oldest_s, 3),
        stream_entries=entries.count,
        stream_oldest_s=round(entries.oldest_s, 3),
        consumer_records=consumer_records,
        at=datetime.fromtimestamp(now_s, UTC),
    )
