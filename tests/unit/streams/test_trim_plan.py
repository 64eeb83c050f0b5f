"""Which entries may go."""

from __future__ import annotations

from streams.mirror_plan import StreamId
from streams.trim_plan import Kept


def filled(*runs: tuple[int, int]) -> Kept:
    kept = Kept()
    for last_ms, entries in runs:
        kept.passed(StreamId(last_ms, 0), entries)
    return kept


def test_nothing_goes_while_no_more_than_the_kept_number_is_there():
    assert filled((10, 60), (20, 40)).min_id(100, []) is None


def test_whole_runs_go_that_the_kept_number_does_not_need():
    assert filled((10, 60), (20, 40), (30, 60)).min_id(100, []) == StreamId(10, 1)
    assert filled((10, 60), (20, 40), (30, 60)).min_id(60, []) == StreamId(20, 1)


def test_a_group_holds_back_what_it_still_needs():
    assert filled((10, 60), (20, 40)).min_id(0, [StreamId(5, 0), StreamId(15, 0)]) == StreamId(5, 0)


def test_what_was_trimmed_is_no_longer_counted():
    kept = filled((10, 60), (20, 40), (30, 60))
    kept.trimmed(60)
    assert kept.count == 100
    assert kept.min_id(100, []) is None
    assert kept.min_id(60, []) == StreamId(20, 1)


def test_a_stream_without_entries_has_nothing_to_trim():
    assert Kept().min_id(0, []) is None
