"""Taking a tenant's records out of an archive: each file that has some is written anew without them.

Where it stands: beside `streams.archive`, which draws the folder. A file keeps its name and the offsets that it covers,
so the archive goes on where it ended; only `records` gets less. The new file takes the old one's place as the last
step, when it is on the disk whole: a kill leaves the old one, and the next run does it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from contracts.said import owner_of
from streams import parquet
from streams.archive import SUFFIX, OpenFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.archive import Archive
    from streams.parquet import ArchivedRecord


class Cleaned(NamedTuple):
    """What was found, or taken out: records, and files that had some."""

    records: int
    files: int


def count(archive: Archive, tenant: str) -> Cleaned:
    """How many records of the tenant the archive has. Raises ArchiveError for a file that cannot be read."""
    found = [sum(_is_of(record, tenant) for record in _records(path)) for path in _paths(archive)]
    return Cleaned(sum(found), sum(map(bool, found)))


def erase(archive: Archive, tenant: str) -> Cleaned:
    """Take the tenant's records out; the caller holds the folder's lock. Raises ArchiveError as `count` does."""
    archive.clear_partial()
    records = files = 0
    for path in _paths(archive):
        gone = sum(_is_of(record, tenant) for record in _records(path))
        if gone:
            _rewrite(path, tenant)
            records, files = records + gone, files + 1
    return Cleaned(records, files)


def _rewrite(path: Path, tenant: str) -> None:
    file = OpenFile.again(path)
    try:
        for group in range(len(parquet.groups(path))):
            for found in parquet.read(path, [group]):
                file.add([record for record in found if not _is_of(record, tenant)])
        file.finish({})
    except BaseException:
        file.abandon()
        raise


def _paths(archive: Archive) -> list[Path]:
    return sorted(archive.folder.glob(f"*/date=*/*{SUFFIX}"))


def _records(path: Path) -> Iterator[ArchivedRecord]:
    for found in parquet.read(path, range(len(parquet.groups(path)))):
        yield from found


def _is_of(record: ArchivedRecord, tenant: str) -> bool:
    return owner_of(record.value, record.headers) == tenant
