"""A tenant's records leave an archive, which goes on as if they had never been there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams import archive_erasure, parquet
from streams.archive import Archive, ArchiveWriter
from streams.records import Partition
from tests.support.chunks import LogRecord

PLACE = Partition("headrace.tools", 3)
DAY_MS = 86_400_000


def filled(folder: Path, tenants: str) -> Archive:
    """A record a tenant, two a day."""
    archive = Archive(folder)
    with ArchiveWriter(archive, PLACE, "e", 0) as writer:
        for offset, tenant in enumerate(tenants):
            value = json.dumps({"tenant_id": tenant}).encode()
            writer.append([LogRecord(value, offset, offset // 2 * DAY_MS, b"k", (("tenant", b"other"),))])
        writer.close(len(tenants))
    return archive


def offsets(archive: Archive) -> list[int]:
    return [r.offset for file in archive.files(PLACE) for chunk in archive.read(file, 0, 99) for r in chunk]


def test_only_files_with_the_tenant_are_written_anew_and_all_cover_what_they_did(tmp_path: Path):
    archive = filled(tmp_path, "abbbaa")
    before = [file._replace(records=0) for file in archive.files(PLACE)]
    untouched = before[1].path.stat().st_mtime_ns
    assert archive_erasure.count(archive, "a") == (3, 2)
    assert archive_erasure.erase(archive, "a") == (3, 2)
    assert offsets(archive) == [1, 2, 3]
    assert [file._replace(records=0) for file in archive.files(PLACE)] == before
    assert before[1].path.stat().st_mtime_ns == untouched
    last = archive.last_record(PLACE)
    assert last is not None
    assert last.offset == 3, "the last day has no record any more"
    assert archive_erasure.erase(archive, "a") == (0, 0)


def test_an_erasure_that_dies_leaves_whole_files_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = filled(tmp_path, "aabaab")
    closed, close = [], parquet.ParquetFile.close

    def dying(file: parquet.ParquetFile, about: dict[str, object]) -> None:
        closed.append(about)
        if len(closed) == 2:
            raise OSError("no space left on device")
        close(file, about)

    monkeypatch.setattr(parquet.ParquetFile, "close", dying)
    with pytest.raises(OSError, match="no space"):
        archive_erasure.erase(archive, "a")
    assert offsets(archive) == [2, 3, 4, 5]
    monkeypatch.undo()
    assert archive_erasure.erase(archive, "a") == (2, 2)
    assert offsets(archive) == [2, 5]
    assert not list(tmp_path.glob("**/*.partial"))
