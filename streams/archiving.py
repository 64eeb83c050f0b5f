"""Copies partitions from Kafka into an archive, from where it ends to where the log ends.

Where it stands: `headrace archive` calls it for each partition; `streams.archive` owns the files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import NamedTuple

from contracts.errors import ArchiveError
from streams.archive import Archive, ArchiveWriter
from streams.kafka_log import OffsetGone
from streams.log_range import LogRange, Span
from streams.parquet import ArchivedRecord
from streams.record_chunk import RecordChunk
from streams.records import Partition


class Copied(NamedTuple):
    """What one run added for a partition, and up to which offset it is archived now."""

    place: Partition
    records: int
    files: int
    next_offset: int
    lost: int
    """Offsets that retention had removed before they were archived."""


async def at_once() -> None:
    """Nothing has to be waited for."""


class Copying(NamedTuple):
    """How to copy. `until_ms`: stop before the first record with this timestamp or a later one; None: at the end."""

    epoch: str
    until_ms: int | None
    skip_lost: bool
    may_go_on: Callable[[], Awaitable[None]] = at_once
    """Waited for before each chunk."""


async def copy(log: LogRange, archive: Archive, place: Partition, span: Span, how: Copying) -> Copied:
    """Append what [archived so far, span.end) holds. A kill leaves whole files; the next run goes on behind them.

    Raises:
        ArchiveError: the archive is of another incarnation of the topic, or retention was faster than the archive.
        ServerMissing: Kafka does not answer.
    """
    start, last = await _where_it_ends(log, archive, place, span, how.epoch)
    lost = max(0, span.begin - start)
    if lost and not how.skip_lost:
        raise ArchiveError(
            f"archive: {place.topic}/{place.number} is archived up to offset {start}, but the topic begins at "
            f"{span.begin}: retention has removed {lost} offsets; --skip-lost goes on and notes it in the archive"
        )
    start += lost
    after_ms = last.timestamp if last is not None else 0
    with ArchiveWriter(archive, place, how.epoch, start, lost=lost, after_ms=after_ms) as writer:
        try:
            reached = await _fill(log, writer, place, Span(start, span.end), how)
        except OffsetGone as error:
            raise ArchiveError(
                f"archive: retention removed records of {place.topic}/{place.number} at {writer.next_offset} "
                "while they were read; run it again, and more often"
            ) from error
        writer.close(span.end if reached else writer.next_offset)
    return Copied(place, writer.records, writer.files, writer.next_offset, lost)


async def _fill(log: LogRange, writer: ArchiveWriter, place: Partition, span: Span, how: Copying) -> bool:
    """Whether the end was reached, and not a record of `until_ms` or later."""
    async with aclosing(log.read_counted(place, *span)) as chunks:
        async for chunk in chunks:
            await how.may_go_on()
            count = len(chunk) if how.until_ms is None else _older(chunk, how.until_ms)
            writer.append([chunk.record(index) for index in range(count)])
            if count < len(chunk):
                return False
    return True


def _older(chunk: RecordChunk, until_ms: int) -> int:
    """How many records stand before the first that is not older."""
    return next((i for i, record in enumerate(chunk) if record.timestamp >= until_ms), len(chunk))


async def _where_it_ends(
    log: LogRange, archive: Archive, place: Partition, span: Span, epoch: str
) -> tuple[int, ArchivedRecord | None]:
    files = archive.files(place)
    if not files:
        return span.begin, None
    end, last = files[-1].next, archive.last_record(place)
    if files[-1].epoch != epoch:
        raise ArchiveError(
            f"archive: {files[-1].path} is of the topic's incarnation {files[-1].epoch}, and it is {epoch} now: "
            "its offsets began anew; give it another --dir"
        )
    if end > span.end or (last is not None and not await stands(log, place, last, span)):
        raise ArchiveError(
            f"archive: {files[-1].path} goes up to offset {end}, which is not what {place.topic}/{place.number} holds: "
            "the topic was made anew; give it another --dir"
        )
    return end, last


async def stands(log: LogRange, place: Partition, record: ArchivedRecord, span: Span) -> bool:
    """Whether the log has this record at its offset, or has that offset no more."""
    if record.offset < span.begin:
        return True
    async with aclosing(log.read(place, record.offset, record.offset + 1)) as chunks:
        async for chunk in chunks:
            found = chunk.record(0)
            return (found.timestamp, found.key, found.value) == (record.timestamp, record.key, record.value)
    return False
