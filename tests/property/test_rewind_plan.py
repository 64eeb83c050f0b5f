from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from runtime.lag import StageLag
from streams import rewind_plan
from streams.rewind_plan import COARSE_S, FINE, MARGIN, Note

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STREAMS = ("orders", "tools")


def entry_id(number: int) -> str:
    return f"{number // 3}-{number % 3}"


@given(
    published=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 30)), min_size=1, max_size=40),
    noted_every=st.integers(1, 5),
    lost=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_every_lost_entry_was_marked_after_the_time_found(
    published: list[tuple[int, int]], noted_every: int, lost: tuple[int, int]
):
    """Entries appear one a step and are marked at once; a note is made every so many steps; a suffix is lost."""
    at, count = START, [0, 0]
    marked: list[tuple[datetime, int, int]] = []
    notes = [Note(at, dict.fromkeys(STREAMS, "0-0"))]
    for step, (stream, pause_s) in enumerate(published):
        at += timedelta(seconds=pause_s)
        count[stream] += 1
        marked.append((at, stream, count[stream]))
        if step % noted_every == 0:
            at += timedelta(seconds=1)
            notes.insert(0, Note(at, {s: entry_id(n) for s, n in zip(STREAMS, count, strict=True)}))
    left = [max(0, n - gone) for n, gone in zip(count, lost, strict=True)]
    since = rewind_plan.lost_since(notes, {s: entry_id(n) for s, n in zip(STREAMS, left, strict=True)})
    assert since is not None
    assert all(marked_at > since for marked_at, stream, number in marked if number > left[stream])


def test_what_is_in_kafka_for_certain_does_not_come_again():
    later = START + timedelta(hours=1)
    known = [
        Note(later, {"orders": "9-0"}, mirrored_to=later - timedelta(seconds=3)),
        Note(START, {"orders": "1-0"}),
    ]
    assert rewind_plan.lost_since(known, {"orders": "0-0"}) == later - timedelta(seconds=3) - MARGIN
    assert rewind_plan.lost_since(known, {"orders": "9-0"}) == later - MARGIN
    assert rewind_plan.lost_since([], {"orders": "0-0"}) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=6), st.integers(0, 6))
def test_what_a_mirror_may_not_have_read_since_it_last_spoke_is_not_in_kafka(
    views: list[tuple[float, float]], silent: int
):
    """Each view is as many seconds old, and its oldest entry had waited for as long then."""
    now_s = START.timestamp()
    told = [StageLag(1 if oldest_s else 0, oldest_s, now_s - age_s) for age_s, oldest_s in views]
    until = rewind_plan.mirrored_to(START, told, now_s)
    assert until is not None
    assert all((START - until).total_seconds() > age_s + oldest_s for age_s, oldest_s in views)
    assert rewind_plan.mirrored_to(START, [*told[:silent], None, *told[silent:]], now_s) is None
    assert rewind_plan.mirrored_to(START, [], now_s) is None


def test_a_stream_that_is_not_there_any_more_went_back():
    assert rewind_plan.went_back(Note(START, {"orders": "1-0"}), {})
    assert not rewind_plan.went_back(Note(START, {"orders": "9-0"}), {"orders": "10-0"})


@given(st.sets(st.integers(0, 20_000), max_size=200), st.integers(600, 10_000))
def test_notes_thin_out_but_none_is_missed_by_more_than_a_minute(seconds: set[int], history_s: int):
    now = START + timedelta(seconds=20_000)
    times = [START + timedelta(seconds=second) for second in seconds]
    kept = sorted(set(times) - set(rewind_plan.superfluous(times, now, history_s)))
    assert [at for at in times if at >= now - FINE and at not in kept] == []
    for at in times:
        if at >= now - timedelta(seconds=history_s):
            assert any(at - timedelta(seconds=COARSE_S) < other <= at for other in kept)
    begin = now - timedelta(seconds=history_s)
    assert sum(at < begin for at in kept) <= 1
    older = [at for at in times if at < begin]
    assert not older or max(older) in kept
