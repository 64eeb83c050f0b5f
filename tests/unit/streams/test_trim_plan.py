"""Which entries may go."""

from __future__ import annotations

from streams.mirror_plan import START, StreamId
from streams.trim_plan import MOST_RUNS, Extent, Kept, Limits, Need, plan, pressure

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LIMITS = Limits(keep_entries=0, dead_ms=HOUR_MS, unread_age_ms=DAY_MS, stream_bytes=1_000_000)
NOW = Extent(length=100, used_bytes=1_000, now_ms=2 * DAY_MS)


def filled(*runs: tuple[int, int]) -> Kept:
    kept = Kept()
    for last_ms, entries in runs:
        kept.passed(StreamId(last_ms, 0), entries)
    return kept


def at(ms: float) -> StreamId:
    return StreamId(int(ms), 0)


RECENT = NOW.now_ms - HOUR_MS
STREAM = ((int(RECENT + 10), 60), (int(RECENT + 20), 40))


def test_nothing_goes_while_no_more_than_the_kept_number_is_there():
    assert plan(filled((10, 60), (20, 40)), [], LIMITS._replace(keep_entries=100), NOW).min_id == START


def test_whole_runs_go_that_the_kept_number_does_not_need():
    kept = filled((10, 60), (20, 40), (30, 60))
    assert plan(kept, [], LIMITS._replace(keep_entries=100), NOW).min_id == StreamId(10, 1)
    assert plan(kept, [], LIMITS._replace(keep_entries=60), NOW).min_id == StreamId(20, 1)


def test_a_group_holds_back_what_it_still_needs():
    needs = [Need("slow", at(RECENT + 5), 0), Need("quick", at(RECENT + 15), 0), Need("done", None, 0)]
    assert plan(filled(*STREAM), needs, LIMITS, NOW).min_id == at(RECENT + 5)


def test_a_group_that_was_silent_for_too_long_holds_nothing_back():
    dead = [Need("dead", at(RECENT + 5), HOUR_MS)]
    cut = plan(filled(*STREAM), dead, LIMITS, NOW)
    assert cut.min_id == StreamId(int(RECENT + 20), 1)
    assert cut.overtaken == {"dead": 100}
    assert plan(filled(*STREAM), dead, LIMITS._replace(dead_ms=0), NOW).min_id == at(RECENT + 5)


def test_an_entry_that_grew_too_old_goes_though_a_live_group_needs_it():
    kept = filled((int(DAY_MS / 2), 60), (int(RECENT), 40))
    slow = [Need("slow", at(10), 0)]
    cut = plan(kept, slow, LIMITS, NOW)
    assert cut.min_id == at(NOW.now_ms - DAY_MS)
    assert cut.overtaken == {"slow": 60}
    assert plan(kept, slow, LIMITS._replace(unread_age_ms=0), NOW).min_id == at(10)
    assert plan(kept, slow, LIMITS._replace(keep_entries=100), NOW).min_id == START


def test_a_stream_that_takes_too_much_memory_is_cut_to_nine_tenths_whoever_needs_it():
    kept = filled(*((int(RECENT) + number, 10) for number in range(10)))
    slow = [Need("slow", at(RECENT), 0)]
    full = NOW._replace(used_bytes=2_000_000)
    limits = LIMITS._replace(keep_entries=100)
    cut = plan(kept, slow, limits, full)
    assert cut.min_id == StreamId(int(RECENT) + 5, 1)
    assert cut.overtaken == {"slow": 60}
    assert plan(filled((int(RECENT), 100)), slow, limits, full).overtaken == {"slow": 100}, "one large run is no excuse"
    assert plan(kept, slow, limits._replace(stream_bytes=0), full).min_id == START


def test_pressure_is_known_long_before_anything_is_lost():
    need = Need("slow", at(NOW.now_ms - DAY_MS / 2), HOUR_MS / 4)
    assert pressure(need, LIMITS, NOW) == 0.5
    assert pressure(need._replace(idle_ms=0.9 * HOUR_MS), LIMITS, NOW) == 0.9
    assert pressure(need, LIMITS, NOW._replace(used_bytes=800_000)) == 0.8
    assert pressure(need._replace(oldest=None), LIMITS, NOW._replace(used_bytes=2_000_000)) == 0
    assert pressure(need._replace(idle_ms=float("inf")), LIMITS, NOW) == 1
    assert pressure(need, LIMITS._replace(dead_ms=0, unread_age_ms=0, stream_bytes=0), NOW) == 0


def test_what_was_trimmed_is_no_longer_counted():
    kept = filled((10, 60), (20, 40), (30, 60))
    kept.trimmed(60)
    assert kept.count == 100
    assert kept.behind(100) == START
    assert kept.behind(60) == StreamId(20, 1)


def test_a_stream_that_nothing_could_leave_for_a_day_is_cut_without_a_hitch():
    """Each of its entries came alone. This took minutes, in which the mirror did nothing else."""
    kept = filled(*((ms, 1) for ms in range(1, 200_001)))
    assert len(kept._runs) <= MOST_RUNS
    assert 190_000 - 200 <= kept.behind(10_000).ms <= 190_000
    kept.trimmed(150_000)
    assert kept.count == 50_000
    assert kept.behind(0) == StreamId(200_000, 1)
    assert 190_000 - 200 <= kept.behind(10_000).ms <= 190_000


def test_a_stream_without_entries_has_nothing_to_trim():
    assert plan(Kept(), [], LIMITS, NOW).min_id == START
