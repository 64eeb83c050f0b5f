"""A folder of Parquet files that holds partitions of topics by day, each offset once. The only importer of pyarrow.

Where it stands: `streams.archiving` fills it from Kafka, `headrace replay --from-archive` reads it.

    <folder>/<topic>/date=<YYYY-MM-DD>/<partition>-<first offset>.parquet
    columns: topic, partition, offset, timestamp_ms, key, value, headers (list of name and value)

A file's footer says which offsets [first, next) it covers; some have none (markers of transactions). The files of a
partition follow each other without overlap, whatever was killed when: a file is written under another name, brought
to the disk, and renamed as the last step; what is not renamed does not count and is removed by the next writer.

The day is that of the record's timestamp, UTC. Where timestamps go back, a record stays in the day that the log had
reached, so that a file's offsets are one stretch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import ArchiveError
from streams.record_chunk import LogRecord, RecordChunk
from streams.records import Headers, Partition

_FORMAT = 1
_META = b"headrace"
_SUFFIX = ".parquet"
_PARTIAL = ".partial"
_DAY_MS = 86_400_000
# A file this long is closed and another begun: what a reader or a copy tool has to take at once.
FILE_RECORDS = 1_000_000
_GROUP_RECORDS = 20_000
_ZSTD_LEVEL = 3

_HEADER = pa.struct([("name", pa.string()), ("value", pa.binary())])
SCHEMA = pa.schema(
    [
        ("topic", pa.dictionary(pa.int32(), pa.string())),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(_HEADER)),
    ]
)


class ArchivedFile(NamedTuple):
    """One file: offsets [first, next) of a partition, of one incarnation (`epoch`) of the cluster."""

    path: Path
    partition: Partition
    epoch: str
    first: int
    next: int
    records: int
    lost: int
    """Offsets before `first` that retention had removed before they could be archived."""


class ArchivedRecord(NamedTuple):
    """A record as it stood in the log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


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
                    f"archive: {after.path} begins at offset {after.first} of cluster {after.epoch}, "
                    f"but {before.path} ends at {before.next} of {before.epoch}; move one of them away"
                )
        return found

    def read(self, file: ArchivedFile, start: int, end: int) -> Iterator[RecordChunk]:
        """The file's records at offsets [start, end), in chunks, in offset order."""
        with pq.ParquetFile(file.path) as parquet:
            groups = [
                number
                for number in range(parquet.num_row_groups)
                if _overlaps(parquet.metadata.row_group(number), start, end)
            ]
            for batch in parquet.iter_batches(batch_size=_GROUP_RECORDS // 5, row_groups=groups):
                records = [record for record in _records(batch) if start <= record.offset < end]
                if records:
                    yield RecordChunk(*file.partition, records, max(record.timestamp for record in records))

    def last_record(self, place: Partition) -> ArchivedRecord | None:
        """The record with the highest offset, None when there is none."""
        for file in reversed(self.files(place)):
            with pq.ParquetFile(file.path) as parquet:
                last = parquet.read_row_group(parquet.num_row_groups - 1)
            return next(iter(_records(last.slice(last.num_rows - 1).to_batches()[0])))
        return None

    def clear_partial(self) -> None:
        """Remove what a killed writer left. Only while no other process writes."""
        for path in self.folder.glob(f"*/date=*/*{_PARTIAL}"):
            path.unlink()

    def _paths(self, place: Partition) -> list[Path]:
        return list((self.folder / place.topic).glob(f"date=*/{place.number:05d}-*{_SUFFIX}"))


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
        self._file: _OpenFile | None = None
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
            name = f"{self._place.number:05d}-{self.next_offset:020d}{_SUFFIX}"
            self._file = _OpenFile(folder / name, self._place, self.next_offset)
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


class _OpenFile:
    def __init__(self, path: Path, place: Partition, first: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._partial = path.with_suffix(_PARTIAL)
        self._place = place
        self._first = first
        self._held: list[LogRecord] = []
        self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd", compression_level=_ZSTD_LEVEL)
        self.records = 0

    def add(self, records: Sequence[LogRecord]) -> None:
        self._held += records
        self.records += len(records)
        if len(self._held) >= _GROUP_RECORDS:
            self._write()

    def finish(self, about: dict[str, object]) -> None:
        """Steps: 1. the footer; 2. the file's bytes to the disk; 3. its name; 4. the name to the disk."""
        self._write()
        about |= {"topic": self._place.topic, "partition": self._place.number, "first": self._first}
        self._writer.add_key_value_metadata({_META: json.dumps(about | {"records": self.records})})
        self._writer.close()  # 1
        _to_disk(self._partial)  # 2
        self._partial.rename(self._path)  # 3
        _to_disk(self._path.parent)  # 4

    def abandon(self) -> None:
        self._writer.close()
        self._partial.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._held:
            self._writer.write_table(_table(self._place, self._held), row_group_size=len(self._held))
            self._held = []


def _day_of(timestamp_ms: int | None) -> int:
    """Days since the epoch; a record without a timestamp (-1) counts as of the first."""
    return max(0, timestamp_ms or 0) // _DAY_MS


def _table(place: Partition, records: Sequence[LogRecord]) -> pa.Table:
    headers = [record.headers for record in records]
    ends = list(accumulate(map(len, headers), initial=0))
    flat = [header for each in headers for header in each]
    columns = [
        pa.DictionaryArray.from_arrays(pa.array([0] * len(records), pa.int32()), pa.array([place.topic])),
        pa.array([place.number] * len(records), pa.int32()),
        pa.array([record.offset for record in records], pa.int64()),
        pa.array([record.timestamp or 0 for record in records], pa.int64()),
        pa.array([record.key for record in records], pa.binary()),
        pa.array([record.value for record in records], pa.binary()),
        pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()),
            pa.StructArray.from_arrays(
                [
                    pa.array([name for name, _ in flat], pa.string()),
                    pa.array([value for _, value in flat], pa.binary()),
                ],
                fields=list(_HEADER),
            ),
        ),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _records(batch: Any) -> Iterator[ArchivedRecord]:  # noqa: ANN401 - pyarrow has no types
    headers = batch.column("headers")
    ends = headers.offsets.to_pylist()
    # The values behind the list as they lie, of which a slice uses a part: `ends` count from their beginning.
    flat = list(zip(headers.values.field("name").to_pylist(), headers.values.field("value").to_pylist(), strict=True))
    columns = (batch.column(name).to_pylist() for name in ("offset", "timestamp_ms", "key", "value"))
    for index, (offset, timestamp_ms, key, value) in enumerate(zip(*columns, strict=True)):
        yield ArchivedRecord(offset, timestamp_ms, key, value, tuple(flat[ends[index] : ends[index + 1]]))


def _described(path: Path) -> ArchivedFile:
    with _readable(path):
        about = json.loads(pq.read_metadata(path).metadata[_META])
        if about["format"] != _FORMAT:
            raise ValueError(f"it has format {about['format']}, this release reads {_FORMAT}")
        place = Partition(about["topic"], about["partition"])
        return ArchivedFile(path, place, about["epoch"], about["first"], about["next"], about["records"], about["lost"])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArchiveError(f"archive: {path} is no file of this archive: {error}") from error


def _overlaps(group: Any, start: int, end: int) -> bool:  # noqa: ANN401 - the same
    offsets = group.column(SCHEMA.get_field_index("offset")).statistics
    return offsets is None or not offsets.has_min_max or (offsets.max >= start and offsets.min < end)


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
