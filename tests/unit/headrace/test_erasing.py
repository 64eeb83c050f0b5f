"""What stands in the way of an erasure is told as what it is, and so is what no erasure reaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import ArchiveError
from headrace.erasing import _in_archive, remains
from streams.archive import Archive
from streams.archive_erasure import Cleaned
from tests.support.aio import run


def test_a_disk_that_is_full_is_not_taken_for_postgresql(tmp_path: Path):
    def full(archive: Archive, _tenant: str) -> Cleaned:
        raise OSError(28, "No space left on device", str(archive.folder / "x.partial"))

    with pytest.raises(ArchiveError, match=r"x\.partial: No space left on device"):
        run(_in_archive(full, tmp_path, "gone"))


def test_what_remains_names_each_log_with_its_time_and_archives_that_were_not_looked_at():
    lines = remains({"p.tools": 7 * 86_400_000, "p.push": 36 * 3_600_000, "p.late": -1}, [])
    assert lines[0] == "Kafka topic p.tools keeps its records until each record is 7 days old"
    assert lines[1] == "Kafka topic p.push keeps its records until each record is 36 hours old"
    assert lines[2] == "Kafka topic p.late keeps its records for ever: its retention.ms is -1"
    assert any("--archive" in line for line in lines)
    assert not any("--archive" in line for line in remains({}, [Path("a")]))
