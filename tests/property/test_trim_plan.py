"""Trimming against a model that knows every entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.mirror_plan import StreamId
from streams.trim_plan import Kept

# Entries per batch, then how many of the oldest Redis really removes of what it may (whole nodes).
steps = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30)), max_size=20)


@given(steps, st.integers(0, 40), st.lists(st.integers(1, 300), max_size=3))
def test_no_entry_goes_that_is_kept_or_still_needed(steps: list[tuple[int, int]], keep: int, needs: list[int]):
    kept, stream, last = Kept(), list[int](), 0
    for entries, removed in steps:
        stream += range(last + 1, last + entries + 1)
        last += entries
        kept.passed(StreamId(last, 0), entries)
        assert kept.count == len(stream)
        min_id = kept.min_id(keep, [StreamId(needed, 0) for needed in needs])
        if min_id is None:
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
    min_id = kept.min_id(keep, [])
    stays = last if min_id is None else last - min_id.ms
    assert stays < keep + max(batches) or last <= keep
