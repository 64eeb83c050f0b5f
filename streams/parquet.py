"""Records as rows of Parquet files. The only importer of pyarrow.

Where it stands: below `streams.archive`, which says which file holds what.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import ArchiveError
from streams.record_chunk import LogRecord
from streams.records import Headers, Partition

# Rows that are compressed together, and read together.
GROUP_RECORDS = 20_000
_CHUNK_RECORDS = 4_000
_ZSTD_LEVEL = 3
_META = b"headrace"

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


class ArchivedRecord(NamedTuple):
    """A record as it stood in the log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Group(NamedTuple):
    """What the footer says of rows that are compressed together; lowest and highest of each."""

    offsets: tuple[int, int]
    timestamps_ms: tuple[int, int]


class ParquetFile:
    """A file that is being written; `close` writes the footer, without which it is none."""

    def __init__(self, path: Path, place: Partition) -> None:
        self._place = place
        self._held: list[LogRecord] = []
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=_ZSTD_LEVEL)

    def add(self, records: Sequence[LogRecord]) -> None:
        """Add records behind those that were added before."""
        self._held += records
        if len(self._held) >= GROUP_RECORDS:
            self._write()

    def close(self, about: dict[str, object]) -> None:
        """Write what is held, and a footer that says `about`."""
        self._write()
        self._writer.add_key_value_metadata({_META: json.dumps(about)})
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file, which is not one."""
        self._writer.close()

    def _write(self) -> None:
        if self._held:
            self._writer.write_table(_table(self._place, self._held), row_group_size=len(self._held))
            self._held = []


def about(path: Path) -> dict[str, Any]:
    """What the file's footer says. Raises ArchiveError when it is no file of ours."""
    with _readable(path):
        said: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[_META])
        return said


def groups(path: Path) -> list[Group]:
    """The file's groups, in offset order."""
    with _readable(path):
        metadata = pq.read_metadata(path)
        each = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        return [Group(_bounds(group, "offset"), _bounds(group, "timestamp_ms")) for group in each]


def read(path: Path, wanted: Sequence[int]) -> Iterator[list[ArchivedRecord]]:
    """The records of the groups with these numbers, in offset order, a few thousand at a time."""
    with _readable(path), pq.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(batch_size=_CHUNK_RECORDS, row_groups=list(wanted)):
            yield list(_records(batch))


def _bounds(group: Any, column: str) -> tuple[int, int]:  # noqa: ANN401 - pyarrow has no types
    # The headers are two columns in the file: those that stand before them have the schema's numbers.
    statistics = group.column(SCHEMA.get_field_index(column)).statistics
    return int(statistics.min), int(statistics.max)


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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ArchiveError(f"archive: {path} is no file of this archive: {error}") from error
