"""Where a partition's records come from: the topic, and before it the archive, each offset once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.errors import ReplayRefused
from streams.log_range import LogRange, Span
from streams.record_chunk import RecordChunk
from streams.records import Partition

if TYPE_CHECKING:
    from streams.archive import Archive, ArchivedFile

# How far clocks of producers, mirrors and brokers may differ, and a mirror's own clock go back.
CLOCK_ALLOWANCE_MS = 60_000


@dataclass(frozen=True)
class Source:
    """One partition's records: offsets [first, end) without a hole, of which the archive has those below `archived`."""

    log: LogRange
    place: Partition
    span: Span
    """What the topic holds."""
    archive: Archive | None = None
    files: tuple[ArchivedFile, ...] = ()

    @property
    def archived(self) -> int:
        """The offset up to which the archive is read; then the topic."""
        return self.files[-1].next if self.files else 0

    @property
    def first(self) -> int:
        """The oldest offset that can be read."""
        return self.files[0].first if self.files else self.span.begin

    async def offset_at(self, at_ms: int) -> int:
        """An offset before which every record is older than `at_ms`; `first` when nothing better is known."""
        if self.archive is not None and self.files:
            found = self.archive.offset_at(self.files, at_ms)
            if found < self.archived:
                return found
        begin = max(self.archived, self.span.begin)
        return await self.log.offset_at(self.place, at_ms, Span(begin, max(begin, self.span.end)))

    async def first_ms(self) -> int | None:
        """The timestamp of the oldest record that can be read; None when there is none."""
        filled = [file for file in self.files if file.records]  # an erasure may have left a file empty
        if self.archive is not None and filled:
            return self.archive.first_ms(filled[0])
        if self.span.begin >= self.span.end:
            return None
        return await self.log.timestamp_at(self.place, self.span.begin)

    async def read(self, start: int, end: int) -> AsyncGenerator[RecordChunk, None]:
        """The records at offsets [start, end), in chunks. Raises OffsetGone and ServerMissing, as LogRange.read."""
        if self.archive is not None:
            for file in self.files:
                if file.next > start and file.first < end:
                    for chunk in self.archive.read(file, start, min(end, file.next)):
                        yield chunk
        begin = max(start, self.archived)
        if begin < end:
            async with aclosing(self.log.read_counted(self.place, begin, end)) as chunks:
                async for chunk in chunks:
                    yield chunk


async def source_of(log: LogRange, place: Partition, span: Span, archive: Archive | None, incarnation: str) -> Source:
    """The partition's source; files of the archive before a hole are left out, as if they were not there.

    Raises:
        ReplayRefused: the archive is of another incarnation of the topic.
        ArchiveError: it does not fit together.
    """
    files = () if archive is None else tuple(archive.files(place))
    if archive is None or not files:
        return Source(log, place, span)
    from streams.archiving import stands  # noqa: PLC0415 - pyarrow is loaded only for an archive

    last = archive.last_record(place)
    if files[-1].epoch != incarnation or (last is not None and not await stands(log, place, last, span)):
        raise ReplayRefused(
            f"replay: the archive holds another incarnation of {place.topic}/{place.number} (up to offset "
            f"{files[-1].next}, {files[-1].epoch}); the topic was made anew since, and its offsets say something else"
        )
    return Source(log, place, span, archive, _without_holes(files, span))


def _without_holes(files: tuple[ArchivedFile, ...], span: Span) -> tuple[ArchivedFile, ...]:
    """The newest files that stand next to each other and to the topic."""
    if files[-1].next < span.begin:
        return ()
    kept = [files[-1]]
    for file in reversed(files[:-1]):
        if kept[-1].lost:
            break
        kept.append(file)
    return tuple(reversed(kept))
