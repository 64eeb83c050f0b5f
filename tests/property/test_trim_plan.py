"""Trimming against a model that knows every entry."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from streams import trim_plan
from streams.mirror_plan import START, StreamId
from streams.trim_plan import Cut, Extent, Kept, Limits, Need, is_live, plan, pressure

# Entries per batch, then how many of the oldest Redis really removes of what it may (whole nodes).
steps = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30)), max_size=20)


OFF = Limits(keep_entries=0, dead_ms=0, unread_age_ms=0, stream_bytes=0)


def safe(kept: Kept, keep: int, needs: list[int]) -> Cut:
    """The plan when nobody may be overtaken."""
    groups = [Need(str(n), StreamId(needed, 0), 0) for n, needed in enumerate(needs)]
    return plan(kept, groups, OFF._replace(keep_entries=keep), Extent(kept.count, 0, 0))


@given(steps, st.integers(0, 40), st.lists(st.integers(1, 300), max_size=3), st.sampled_from([1, 3, 4_000]))
def test_no_entry_goes_that_is_kept_or_still_needed(
    steps: list[tuple[int, int]], keep: int, needs: list[int], most_runs: int
):
    with patch.object(trim_plan, "MOST_RUNS", most_runs):
        check_that_no_entry_goes(steps, keep, needs)


def check_that_no_entry_goes(steps: list[tuple[int, int]], keep: int, needs: list[int]) -> None:
    kept, stream, last = Kept(), list[int](), 0
    for entries, removed in steps:
        stream += range(last + 1, last + entries + 1)
        last += entries
        kept.passed(StreamId(last, 0), entries)
        assert kept.count == len(stream)
        min_id = safe(kept, keep, needs).min_id
        if min_id == START:
            continue
        doomed = [ms for ms in stream if StreamId(ms, 0) < min_id]
        assert len(stream) - len(doomed) >= keep
        assert all(ms < min(needs) for ms in doomed) if needs else True
        gone = doomed[:removed]
        stream = stream[len(gone) :]
        kept.trimmed(len(gone))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(0, 40))
def test_all_whole_batches_beyond_the_kept_number_may_go(batches: list[int], keep: int):
    kept, last = Kept(), 0
    for entries in batches:
        last += entries
        kept.passed(StreamId(last, 0), entries)
    min_id = safe(kept, keep, []).min_id
    stays = last if min_id == START else last - min_id.ms
    assert stays < keep + max(batches) or last <= keep


limits = st.builds(Limits, st.integers(0, 40), st.integers(0, 50), st.integers(0, 60), st.integers(0, 100))
groups = st.lists(
    st.builds(
        Need, st.sampled_from("abc"), st.none() | st.builds(StreamId, st.integers(1, 90), st.just(0)), st.floats(0, 100)
    ),
    max_size=3,
    unique_by=lambda need: need.group,
)


@given(st.lists(st.integers(1, 9), max_size=9), st.integers(0, 20), groups, limits, st.integers(0, 200))
def test_nobody_is_overtaken_who_was_not_under_full_pressure(
    batches: list[int], unmirrored: int, needs: list[Need], bounds: Limits, used_bytes: int
):
    kept, last = Kept(), 0
    for entries in batches:
        last += entries
        kept.passed(StreamId(last, 0), entries)
    extent = Extent(last + unmirrored, used_bytes, last + 10)
    cut = plan(kept, needs, bounds, extent)
    assert cut.min_id <= StreamId(last, 1)  # what is not mirrored stays, whatever else holds
    for need in needs:
        if need.oldest is not None and need.oldest < cut.min_id:
            assert pressure(need, bounds, extent) == 1
    live = [need.oldest for need in needs if need.oldest is not None and is_live(need, bounds)]
    if not bounds.unread_age_ms and not bounds.stream_bytes and live:
        assert cut.min_id <= min(live)
