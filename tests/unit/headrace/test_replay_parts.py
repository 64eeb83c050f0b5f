"""What a replay decides before it sends anything: times, ranges, offsets, what is kept, how fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from contracts.errors import ReplayRefused, SettingsError
from contracts.names import TenantId
from headrace.commands.archive import chosen
from headrace.commands.times import instant_ms
from headrace.replay.job import Job
from headrace.replay.options import ReplayOptions, lengths_of, table_of, whole_windows
from headrace.replay.pace import Pace
from headrace.replay.plan import Rules, Stretch, planned
from headrace.replay.progress import standing
from headrace.replay.sources import CLOCK_ALLOWANCE_MS, Source, source_of
from runtime.clock import ManualClock
from runtime.settings import Settings
from streams.archive import Archive, ArchivedFile, ArchiveWriter
from streams.log_range import LogRange, Span
from streams.parquet import ArchivedRecord
from streams.records import Partition
from tables import catalogue as tables
from tables.recompute import Recomputation, TimeRange, Wanted
from tests.support.aio import run

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = 1_772_366_400_000
SIZE_MS = 10_000
SKEW_MS = 60_000
RULES = Rules(SIZE_MS, SKEW_MS, retention_ms=86_400_000, now_ms=NOON_MS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOON_MS),
        ("now-90m", NOON_MS - 5_400_000),
        ("-15s", NOON_MS - 15_000),
        ("now-2d", NOON_MS - 172_800_000),
        ("2026-03-01", NOON_MS - 43_200_000),
        ("2026-03-01T12:00:00Z", NOON_MS),
        ("2026-03-01T14:00:00.250+02:00", NOON_MS + 250),
    ],
)
def test_times_are_dates_moments_with_an_offset_or_relative_to_now(text: str, expected: int):
    assert instant_ms(text, "--from", ManualClock(NOON)) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-03-01T12:00:00", "2026-13-01", "now+1h", "now-5w", "1969-12-31", "9999-12-31"]
)
def test_any_other_time_is_refused_with_the_option_and_the_forms(text: str):
    with pytest.raises(SettingsError, match=r"--from: must be 2026-03-01, .*now-90m"):
        instant_ms(text, "--from", ManualClock(NOON))


def test_topics_are_chosen_by_name():
    assert [topic.value for topic in chosen(["tools", "voice"])] == ["tools", "voice"]
    assert len(chosen(None)) == 6
    with pytest.raises(
        SettingsError, match="--topic: must be one of orders, tools.* \\(got push\\)".replace("push", "'push'")
    ):
        chosen(["push"])


def asked(begin: int, end: int, **more: Any) -> ReplayOptions:  # noqa: ANN401 - any field
    return ReplayOptions("tool_latency", TimeRange(NOON_MS + begin, NOON_MS + end), **more)


def test_only_whole_windows_that_are_over_are_replayed():
    span = whole_windows(asked(-25_000, -4_000), SIZE_MS, NOON_MS)
    assert span == (NOON_MS - 20_000, NOON_MS - 10_000)
    assert whole_windows(asked(-25_000, 99_000), SIZE_MS, NOON_MS + 3_000).to_ms == NOON_MS
    with pytest.raises(ReplayRefused, match="no whole window of 10 s"):
        whole_windows(asked(-9_000, -1_000), SIZE_MS, NOON_MS)
    with pytest.raises(ReplayRefused, match="no whole window"):
        whole_windows(asked(5_000, -50_000), SIZE_MS, NOON_MS)


def test_a_table_without_windows_or_of_another_name_is_refused():
    settings = Settings()
    with pytest.raises(SettingsError, match=r"TABLE: must be one of tool_latency.*\(got 'nothing'\)"):
        table_of(settings, "nothing")
    for kind in tables.catalogue(settings).values():
        if kind.size_ms:
            assert lengths_of(settings, table_of(settings, kind.name)).window_s * 1000 == kind.size_ms
        else:
            with pytest.raises(ReplayRefused, match="one row for all time"):
                table_of(settings, kind.name)


@dataclass(frozen=True)
class Fixed:
    """A source of which only the ends are known; records come one a second from `first` on."""

    place: Partition
    span: Span
    first: int
    oldest_ms: int | None
    archived: int = 0

    async def first_ms(self) -> int | None:
        return self.oldest_ms

    async def offset_at(self, at_ms: int) -> int:
        assert self.oldest_ms is not None
        return max(self.first, self.first + (at_ms - self.oldest_ms) // 1000)


def stretches(sources: list[Fixed], begin: int, end: int = 0) -> list[Stretch]:
    return run(planned(cast("list[Source]", sources), TimeRange(NOON_MS + begin, NOON_MS + end), RULES))


def fixed(first: int = 0, oldest_ms: int | None = NOON_MS - 3_600_000, number: int = 0) -> Fixed:
    return Fixed(Partition("h.tools", number), Span(first, first + 3600), first, oldest_ms)


def test_each_partition_is_read_from_before_the_range_to_its_end():
    allowance_s = (SKEW_MS + CLOCK_ALLOWANCE_MS) // 1000
    assert stretches([fixed(number=4)], -600_000) == [Stretch(4, 3000 - allowance_s, 3600)]
    assert stretches([fixed()], -7_200_000) == [Stretch(0, 0, 3600)], "nothing was ever removed"


def test_a_range_that_retention_has_cut_is_refused_with_the_moment_from_which_on_data_exist():
    exists = -3_600_000 + SKEW_MS + CLOCK_ALLOWANCE_MS
    assert stretches([fixed(first=50)], exists)
    with pytest.raises(ReplayRefused, match=r"h\.tools has been cut by retention.* from 2026-03-01T11:02:00Z on"):
        stretches([fixed(), fixed(first=50, number=1)], exists - SIZE_MS)


def test_a_partition_of_which_nothing_is_left_has_been_cut_up_to_the_topics_retention():
    empty = replace(fixed(first=50, oldest_ms=None), span=Span(50, 50))
    with pytest.raises(ReplayRefused, match="complete windows exist from 2026-02-28T12:02:00Z"):
        stretches([empty], -90_000_000)


PLACE = Partition("h.tools", 0)


def archived(folder: Path, *cuts: int, lost_before: int | None = None, epoch: str = "id1") -> Archive:
    """Files [0, cuts[0]), [cuts[0], cuts[1]) …, a record a second; `lost_before`: the file that begins there lost 5."""
    archive, begin = Archive(folder), 0
    for end in cuts:
        lost = 5 if begin == lost_before else 0
        with ArchiveWriter(archive, PLACE, epoch, begin + lost, lost=lost) as writer:
            writer.append(
                [ArchivedRecord(n, NOON_MS + 1000 * n, None, b"%d" % n, ()) for n in range(begin + lost, end)]
            )
            writer.close(end)
        begin = end
    return archive


def source(archive: Archive, begin: int, end: int, epoch: str = "id1") -> Source:
    return run(source_of(LogRange(Settings().kafka), PLACE, Span(begin, end), archive, epoch))


def test_an_archive_that_reaches_the_topic_is_read_before_it(tmp_path: Path):
    found = source(archived(tmp_path, 10, 20), begin=20, end=30)
    assert (found.first, found.archived, run(found.first_ms())) == (0, 20, NOON_MS)
    assert run(found.offset_at(NOON_MS + 12_000)) == 10, "the first rows that are compressed together"
    assert [r.offset for chunk in run(_read(found, 5, 15)) for r in chunk] == list(range(5, 15))


async def _read(found: Source, start: int, end: int) -> list[Any]:
    return [chunk async for chunk in found.read(start, end)]


def test_what_lies_before_a_hole_is_not_read(tmp_path: Path):
    assert source(archived(tmp_path / "a", 10, 20), begin=25, end=30).files == ()
    assert [file.first for file in source(archived(tmp_path / "b", 10, 20, 30, lost_before=10), 30, 40).files] == [
        15,
        20,
    ]


def test_an_archive_of_another_incarnation_is_refused(tmp_path: Path):
    with pytest.raises(ReplayRefused, match=r"another incarnation of h\.tools/0"):
        source(archived(tmp_path, 10), begin=10, end=30, epoch="id2")


def job(state: Path, **more: Any) -> Job:  # noqa: ANN401 - any option
    options = asked(-50_000, 0, state=state, **more)
    return Job(options, whole_windows(options, SIZE_MS, NOON_MS), ("h", "workers"))


def windows() -> Recomputation[Any]:
    kind = table_of(Settings(), "tool_latency")
    return Recomputation(kind, Wanted(TimeRange(0, 1), None, "compat", SKEW_MS))


def test_a_job_is_found_again_by_what_was_asked(tmp_path: Path):
    plan = job(tmp_path).begin(NOON_MS, "id1", [Stretch(0, 5, 9)])
    job(tmp_path).save(0, 7, windows())
    assert job(tmp_path).plan("id1") == plan
    assert job(tmp_path).load(0, windows()) == 7
    assert job(tmp_path).load(1, windows()) is None
    assert job(tmp_path, tenant_id=TenantId("acme")).plan("id1") is None
    assert job(tmp_path, force=True).plan("id1") is None
    assert job(tmp_path).plan("id2") is None, "the topic was made anew"


def test_a_new_plan_and_a_finished_job_leave_nothing_of_an_old_one(tmp_path: Path):
    job(tmp_path).save(0, 7, windows())
    job(tmp_path).begin(NOON_MS, "id1", [])
    assert job(tmp_path).load(0, windows()) is None
    job(tmp_path).remove()
    assert job(tmp_path).plan("id1") is None


def test_a_file_that_was_cut_short_counts_as_missing(tmp_path: Path):
    at = job(tmp_path)
    at.begin(NOON_MS, "id1", [])
    at.save(0, 7, windows())
    for path in at.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    assert (at.plan("id1"), at.load(0, windows())) == (None, None)


def test_a_dry_run_keeps_nothing(tmp_path: Path):
    at = job(tmp_path, dry_run=True)
    at.begin(NOON_MS, "id1", [])
    at.save(0, 7, windows())
    at.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_pace_is_kept_on_average_and_lost_time_is_not_made_up_for():
    clock = ManualClock(NOON)
    pace = Pace(100.0, clock)
    assert pace.pause_s(50) == pytest.approx(0.5)
    clock.advance(0.5)
    assert pace.pause_s(100) == pytest.approx(1.0)
    clock.advance(60.0)
    assert pace.pause_s(10) == 0.0
    assert pace.pause_s(100) == pytest.approx(1.0)
    assert Pace(None, clock).pause_s(10**9) == 0.0


def test_progress_says_how_far_how_fast_and_how_long_it_will_take():
    assert standing(250_000, 1_000_000, 2.5, "records") == "250,000 of 1,000,000 records, 100,000/s, about 8 s left"
    assert standing(0, 10, 0.0, "rows").endswith("no estimate yet")


def test_files_of_an_archive_say_what_they_cover(tmp_path: Path):
    files: list[ArchivedFile] = archived(tmp_path, 10, 20).files(PLACE)
    assert [(file.first, file.next, file.epoch) for file in files] == [(0, 10, "id1"), (10, 20, "id1")]
