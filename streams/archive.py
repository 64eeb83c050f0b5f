"""A folder of Parquet files that holds partitions of topics by day, each offset once.

Where it stands: `streams.archiving` fills it from Kafka, `headrace replay --from-archive` reads it; `streams.parquet`
reads and writes the files.

    <folder>/<topic>/date=<YYYY-MM-DD>/<partition>-<first offset>.parquet
    columns: topic, partition, offset, timestamp_ms, key, value, headers (list of name and value)

A file's footer says which offsets [first, next) it covers; some have none (markers of transactions). The files of a
partition follow each other without overlap, whatever was killed when: a file is written under another name, brought
to the disk, and renamed as the last step; what is not renamed does not count and is removed by the next writer.

The day is that of the record's timestamp, UTC. Where timestamps go back, a record stays in the day that the log had
reached, so that a file's offsets are one stretch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

from contracts.errors import ArchiveError
from streams import parquet
from streams.parquet import ArchivedRecord
from streams.record_chunk import LogRecord, RecordChunk
from streams.records import Partition

_FORMAT = 1
SUFFIX = ".parquet"
_PARTIAL = ".partial"
_DAY_MS = 86_400_000
# A file this long is closed and another begun: what a reader or a copy tool has to take at once.
FILE_RECORDS = 1_000_000


class ArchivedFile(NamedTuple):
    """One file: offsets [first, next) of a partition, of one incarnation (`epoch`) of the topic."""

    path: Path
    partition: Partition
    epoch: str
    first: int
    next: int
    records: int
    lost: int
    """Offsets before `first` that retention had removed before they could be archived."""


class Archive:
    """The folder; it need not exist yet. One process writes at a time (its caller locks), any number may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, place: Partition) -> list[ArchivedFile]:
        """The files of a partition, by offset.

        Raises:
            ArchiveError: a file cannot be read, or two of them do not follow each other.
        """
        found = sorted(map(_described, self._paths(place)), key=lambda file: file.first)
        for before, after in pairwise(found):
            if after.first != before.next + after.lost or after.epoch != before.epoch:
                raise ArchiveError(
                    f"archive: {after.path} begins at offset {after.first} of {after.epoch}, "
                    f"but {before.path} ends at {before.next} of {before.epoch}; move one of them away"
                )
        return found

    def read(self, file: ArchivedFile, start: int, end: int) -> Iterator[RecordChunk]:
        """The file's records at offsets [start, end), in chunks, in offset order."""
        groups = enumerate(parquet.groups(file.path))
        wanted = [number for number, group in groups if group.offsets[1] >= start and group.offsets[0] < end]
        for found in parquet.read(file.path, wanted):
            records = [record for record in found if start <= record.offset < end]
            if records:
                yield RecordChunk(*file.partition, records, max(record.timestamp for record in records))

    def last_record(self, place: Partition) -> ArchivedRecord | None:
        """The record with the highest offset, None when there is none."""
        for file in reversed(self.files(place)):
            if file.records == 0:
                continue  # all of it was of a tenant that was erased
            return list(parquet.read(file.path, [len(parquet.groups(file.path)) - 1]))[-1][-1]
        return None

    def offset_at(self, files: Sequence[ArchivedFile], at_ms: int) -> int:
        """An offset before which every record of these files is older than `at_ms`; their end if all are older."""
        for file in files:
            for group in parquet.groups(file.path):
                if group.timestamps_ms[1] >= at_ms:
                    return group.offsets[0]
        return files[-1].next

    def first_ms(self, file: ArchivedFile) -> int:
        """The lowest timestamp in the first rows of a file that has some, ms since the epoch."""
        return parquet.groups(file.path)[0].timestamps_ms[0]

    def clear_partial(self) -> None:
        """Remove what a killed writer left. Only while no other process writes."""
        for path in self.folder.glob(f"*/date=*/*{_PARTIAL}"):
            path.unlink()

    def _paths(self, place: Partition) -> list[Path]:
        return list((self.folder / place.topic).glob(f"date=*/{place.number:05d}-*{SUFFIX}"))


class ArchiveWriter:
    """Appends a partition's records, from offset `first` on; use as a context, `close` makes the rest durable.

    When the body fails, the file that was not closed is removed; all earlier ones stay.
    """

    def __init__(
        self, archive: Archive, place: Partition, epoch: str, first: int, *, lost: int = 0, after_ms: int = 0
    ) -> None:
        """`lost`: offsets before `first` that are gone; `after_ms`: the timestamp of the last record archived."""
        self._archive = archive
        self._place = place
        self._epoch = epoch
        self._lost = lost
        self._day = _day_of(after_ms)
        self._file: OpenFile | None = None
        self.next_offset = first
        """Up to here everything is in a file, closed or not."""
        self.files = 0
        self.records = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.abandon()

    def append(self, records: Sequence[LogRecord]) -> None:
        """Add records, in offset order, above all that were added before."""
        begin = 0
        for index, record in enumerate(records):
            day = max(self._day, _day_of(record.timestamp))
            if day != self._day:
                self._add(records[begin:index])
                self._finish(self.next_offset)
                self._day, begin = day, index
        self._add(records[begin:])
        if self._file is not None and self._file.records >= FILE_RECORDS:
            self._finish(self.next_offset)

    def close(self, next_offset: int) -> None:
        """Make everything durable; nothing is left to archive below `next_offset`."""
        self._finish(max(next_offset, self.next_offset))

    def _add(self, records: Sequence[LogRecord]) -> None:
        if not records:
            return
        if self._file is None:
            day = datetime.fromtimestamp(self._day * _DAY_MS / 1000, UTC).date().isoformat()
            folder = self._archive.folder / self._place.topic / f"date={day}"
            name = f"{self._place.number:05d}-{self.next_offset:020d}{SUFFIX}"
            self._file = OpenFile(folder / name, self._place, self.next_offset)
        self._file.add(records)
        self.next_offset = records[-1].offset + 1
        self.records += len(records)

    def _finish(self, next_offset: int) -> None:
        if self._file is None:
            return
        about = {"format": _FORMAT, "epoch": self._epoch, "next": next_offset, "lost": self._lost}
        self._file.finish(about)
        self._file, self._lost = None, 0
        self.next_offset = next_offset
        self.files += 1


class OpenFile:
    """A file that is being written, beside the one whose place it takes when it is finished."""

    def __init__(self, path: Path, place: Partition, first: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._partial = path.with_suffix(_PARTIAL)
        self._about: dict[str, object] = {"topic": place.topic, "partition": place.number, "first": first}
        self._file = parquet.ParquetFile(self._partial, place)
        self.records = 0

    @classmethod
    def again(cls, path: Path) -> OpenFile:
        """A file that is to take the place of one that is there, and covers what that one does."""
        about = parquet.about(path)
        made = cls(path, Partition(about["topic"], about["partition"]), about["first"])
        made._about = about
        return made

    def add(self, records: Sequence[LogRecord]) -> None:
        """Add records behind those that were added before."""
        self._file.add(records)
        self.records += len(records)

    def finish(self, about: dict[str, object]) -> None:
        """Steps: 1. the footer; 2. the file's bytes to the disk; 3. its name; 4. the name to the disk."""
        self._file.close(self._about | about | {"records": self.records})  # 1
        _to_disk(self._partial)  # 2
        self._partial.rename(self._path)  # 3
        _to_disk(self._path.parent)  # 4

    def abandon(self) -> None:
        """Remove it."""
        self._file.abandon()
        self._partial.unlink(missing_ok=True)


def _day_of(timestamp_ms: int | None) -> int:
    """Days since the epoch; a record without a timestamp (-1) counts as of the first."""
    return max(0, timestamp_ms or 0) // _DAY_MS


def _described(path: Path) -> ArchivedFile:
    about = parquet.about(path)
    if about.get("format") != _FORMAT:
        raise ArchiveError(f"archive: {path} has format {about.get('format')}, this release reads {_FORMAT}")
    place = Partition(about["topic"], about["partition"])
    return ArchivedFile(path, place, about["epoch"], about["first"], about["next"], about["records"], about["lost"])


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
