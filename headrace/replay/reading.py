"""Records to windows: one partition of the source, read and folded in step."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tables.recompute import Page, Recomputation, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.background import Background
    from headrace.replay.job import Job
    from headrace.replay.pace import Pace
    from headrace.replay.plan import Stretch
    from headrace.replay.sources import Source
    from runtime.clock import Clock
    from streams.record_chunk import RecordChunk
    from tables.fold import TableKind

# Windows are kept this often: what a kill costs at most, next to what a file costs.
SAVE_EVERY_S = 20.0


@dataclass
class Part:
    """One partition of a replay: its source, its windows, and the offset up to which (exclusive) they are made."""

    source: Source
    windows: Recomputation[Any]
    next_offset: int

    @property
    def number(self) -> int:
        """The partition."""
        return self.source.place.number


class Reader:
    """Reads at the given pace, while `background` lets it, and keeps what it made with `job`."""

    def __init__(self, pace: Pace, clock: Clock, job: Job, told: Callable[[int], None], background: Background) -> None:
        self.background = background
        self._pace = pace
        self._clock = clock
        self._job = job
        self._told = told

    async def take_up(self, kind: TableKind[Any], wanted: Wanted, source: Source, stretch: Stretch) -> Part:
        """The partition as an earlier run left it, or from the beginning of its stretch."""
        windows = Recomputation(kind, wanted)
        kept = self._job.load(stretch.partition, windows)
        part = Part(source, windows, stretch.start if kept is None else kept)
        self._told(max(0, part.next_offset - stretch.start))
        return part

    async def read(self, part: Part, end: int) -> None:
        """Fold what stands below `end`. Interrupted, it keeps what was folded."""
        if part.next_offset >= end:
            return
        saved_s = self._clock.monotonic_s()
        try:
            async with aclosing(part.source.read(part.next_offset, end)) as chunks:
                async for chunk in chunks:
                    part.windows.fold(page_of(chunk))
                    next_offset = chunk.offsets[-1] + 1
                    self._told(next_offset - part.next_offset)
                    part.next_offset = next_offset
                    if self._clock.monotonic_s() - saved_s >= SAVE_EVERY_S:
                        self._job.save(part.number, part.next_offset, part.windows)
                        saved_s = self._clock.monotonic_s()
                    await asyncio.sleep(self._pace.pause_s(len(chunk)))
                    await self.background.wait()
        except asyncio.CancelledError:  # at a wait, so between two chunks; after anything else it is not known where
            self._job.save(part.number, part.next_offset, part.windows)
            raise
        self._told(end - part.next_offset)
        part.next_offset = end
        self._job.save(part.number, part.next_offset, part.windows)


def page_of(chunk: RecordChunk) -> Page:
    """A chunk as a recomputation takes it; what the mirror refused is left out, as the live table leaves it out."""
    payloads = chunk.payloads(without=chunk.refusals())
    return Page(payloads, chunk.timestamps_ms(), lambda index: chunk.record(index).headers)
