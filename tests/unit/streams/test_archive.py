"""The archive's files: every offset once, by day, whatever was killed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.errors import ArchiveError
from streams import archive as module
from streams import parquet
from streams.archive import Archive, ArchiveWriter
from streams.parquet import SCHEMA, ArchivedRecord
from streams.records import Partition

PLACE = Partition("shop.tools", 3)
DAY_MS = 86_400_000


def record(offset: int, timestamp: int = 0) -> ArchivedRecord:
    """A record with everything a log can hold; every third one has no key, no value or an empty header."""
    headers = (("tenant", b"t1"), ("odd", b"\xff\x00"), ("none", None))[: offset % 4]
    key, value = (None if offset % 3 == 0 else b"k%d" % offset), (None if offset % 5 == 4 else b'{"n": %d}' % offset)
    return ArchivedRecord(offset, timestamp, key, value, headers)  # type: ignore[arg-type]


def written(folder: Path, records: list[ArchivedRecord], next_offset: int | None = None) -> Archive:
    archive = Archive(folder)
    files = archive.files(PLACE)
    first = files[-1].next if files else 0
    with ArchiveWriter(archive, PLACE, "e1", first) as writer:
        writer.append(records)
        writer.close(records[-1].offset + 1 if next_offset is None else next_offset)
    return archive


def read(archive: Archive, start: int = 0, end: int = 1 << 40) -> list[ArchivedRecord]:
    found = []
    for file in archive.files(PLACE):
        for chunk in archive.read(file, start, end):
            assert chunk.newest_ms >= max(r.timestamp for r in chunk)
            found += [ArchivedRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in chunk]
    return found


def test_what_is_read_is_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "GROUP_RECORDS", 50)
    records = [record(offset, 1000 * offset) for offset in range(333) if offset % 7]
    assert read(written(tmp_path, records)) == records


@pytest.mark.parametrize(("start", "end"), [(0, 1), (10, 120), (99, 100), (100, 101), (200, 900), (333, 400)])
def test_a_stretch_is_read_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, end: int):
    monkeypatch.setattr(parquet, "GROUP_RECORDS", 50)
    records = [record(offset, 1000 * offset) for offset in range(333)]
    assert read(written(tmp_path, records), start, end) == records[start:end]


def test_a_day_has_its_own_files_and_a_record_that_goes_back_stays_in_the_day_reached(tmp_path: Path):
    stamps = [5, DAY_MS - 1, DAY_MS, DAY_MS - 10, DAY_MS + 1, 3 * DAY_MS]
    archive = written(tmp_path, [record(offset, stamp) for offset, stamp in enumerate(stamps)])
    days = {file.path.parent.name: (file.first, file.next) for file in archive.files(PLACE)}
    assert days == {"date=1970-01-01": (0, 2), "date=1970-01-02": (2, 5), "date=1970-01-04": (5, 6)}


def test_a_later_run_goes_on_behind_the_first_and_offsets_without_records_are_covered(tmp_path: Path):
    written(tmp_path, [record(0), record(1)], next_offset=5)
    archive = written(tmp_path, [record(7), record(8)])
    assert [(file.first, file.next, file.records) for file in archive.files(PLACE)] == [(0, 5, 2), (5, 9, 2)]
    assert [r.offset for r in read(archive)] == [0, 1, 7, 8]
    assert archive.last_record(PLACE) == record(8)


def test_a_writer_that_ends_early_leaves_only_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FILE_RECORDS", 10)
    archive = Archive(tmp_path)

    def interrupted() -> None:
        with ArchiveWriter(archive, PLACE, "e1", 0) as writer:
            for offset in range(25):
                writer.append([record(offset)])
            raise RuntimeError("pulled")

    with pytest.raises(RuntimeError, match="pulled"):
        interrupted()
    assert [(file.first, file.next) for file in archive.files(PLACE)] == [(0, 10), (10, 20)]
    assert not list(tmp_path.rglob("*.partial"))


def test_what_a_killed_writer_left_does_not_count_and_is_cleared(tmp_path: Path):
    archive = written(tmp_path, [record(0)])
    left = archive.files(PLACE)[0].path.with_name("00003-00000000000000000001.partial")
    left.write_bytes(b"PAR1 half a file")
    assert [file.next for file in archive.files(PLACE)] == [1]
    archive.clear_partial()
    assert not left.exists()


def test_files_that_overlap_are_refused_and_named(tmp_path: Path):
    archive = written(tmp_path, [record(0), record(1)])
    only = archive.files(PLACE)[0].path
    with ArchiveWriter(archive, PLACE, "e1", 1) as writer:
        writer.append([record(1)])
        writer.close(2)
    with pytest.raises(ArchiveError, match=f"begins at offset 1 .* but {only} ends at 2"):
        archive.files(PLACE)


def test_a_stretch_that_was_lost_is_noted_and_does_not_count_as_a_contradiction(tmp_path: Path):
    archive = written(tmp_path, [record(0)])
    with ArchiveWriter(archive, PLACE, "e1", 50, lost=49) as writer:
        writer.append([record(50)])
        writer.close(51)
    assert [(file.first, file.next, file.lost) for file in archive.files(PLACE)] == [(0, 1, 0), (50, 51, 49)]


def test_a_file_of_another_kind_is_named_in_the_error(tmp_path: Path):
    folder = tmp_path / "shop.tools" / "date=2026-01-01"
    folder.mkdir(parents=True)
    (folder / "00003-00000000000000000000.parquet").write_bytes(b"no parquet")
    with pytest.raises(ArchiveError, match=r"00003-0+\.parquet is no file of this archive"):
        Archive(tmp_path).files(PLACE)


def test_any_tool_can_read_the_columns_and_they_are_compressed(tmp_path: Path):
    archive = written(tmp_path, [record(offset, offset) for offset in range(100)])
    table = pq.read_table(archive.files(PLACE)[0].path, partitioning=None)
    assert table.schema.names == SCHEMA.names
    assert table.column("topic").to_pylist() == ["shop.tools"] * 100
    assert table.column("offset").to_pylist() == list(range(100))
    metadata = pq.read_metadata(archive.files(PLACE)[0].path)
    assert metadata.row_group(0).column(5).compression == "ZSTD"
