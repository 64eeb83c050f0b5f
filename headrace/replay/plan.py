"""What is to be read: for each partition the offsets from where the range may begin to the log's end as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from contracts.errors import ReplayRefused
from contracts.times import moment_of
from headrace.replay.sources import CLOCK_ALLOWANCE_MS, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tables.recompute import TimeRange


class Stretch(msgspec.Struct, frozen=True):
    """Offsets [start, end) of one partition."""

    partition: int
    start: int
    end: int


@dataclass(frozen=True)
class Rules:
    """Lengths that decide what must be read. `retention_ms`: of the topic, for a partition that is empty by now."""

    size_ms: int
    future_skew_ms: int
    retention_ms: int
    now_ms: int

    @property
    def allowance_ms(self) -> int:
        """How much older than its event a record's timestamp may be."""
        return self.future_skew_ms + CLOCK_ALLOWANCE_MS


async def planned(sources: Sequence[Source], span: TimeRange, rules: Rules) -> list[Stretch]:
    """The stretches, by partition.

    A record of an event in the range is at most `allowance_ms` older than the event, so what stands before the first
    record of that age is left out. How late it may come has no limit: the log is read to its end.

    Raises:
        ReplayRefused: retention has removed records that may belong to the range; says from when on data exist.
    """
    exists_from_ms = max([await _complete_from_ms(source, rules) for source in sources], default=0)
    if span.from_ms < exists_from_ms:
        moment = moment_of(exists_from_ms).isoformat().replace("+00:00", "Z")
        raise ReplayRefused(
            f"replay: {sources[0].place.topic} has been cut by retention: complete windows exist from {moment} on; "
            f"ask with --from {moment}, or give an archive that holds the rest with --from-archive"
        )
    at_ms = span.from_ms - rules.allowance_ms
    return [
        Stretch(source.place.number, await source.offset_at(at_ms), max(source.span.end, source.archived))
        for source in sources
    ]


async def _complete_from_ms(source: Source, rules: Rules) -> int:
    """The start of the first window of which no record can have been removed; 0 when none was ever."""
    if source.first == 0:
        return 0
    oldest_ms = await source.first_ms()
    if oldest_ms is None:  # everything was removed, so everything is older than this
        oldest_ms = rules.now_ms - rules.retention_ms
    # What was removed is older than the oldest record that is left, and so is its event, but for the allowance.
    return -(-(oldest_ms + rules.allowance_ms) // rules.size_ms) * rules.size_ms
