from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contracts.times import moment_of
from streams.record_chunk import LATEST_MS, RecordChunk, Run, chunks_of, run_of
from tests.support.chunks import LogRecord, chunk

offsets = st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True).map(sorted)


def test_offsets_without_gaps_are_a_range():
    assert chunk([LogRecord(b"a", 5), LogRecord(b"b", 6)]).offsets == range(5, 7)
    assert chunk([LogRecord(b"a", 5), LogRecord(b"b", 9)]).offsets == [5, 9]


@given(offsets, st.data())
def test_chunks_hold_every_record_from_the_beginning_on_once_and_in_order(found: list[int], data: st.DataObject):
    runs: list[Run] = []
    left = found
    while left:
        size = data.draw(st.integers(1, len(left)))
        runs.append(run_of([LogRecord(b"%d" % offset, offset, timestamp=1000 + offset) for offset in left[:size]]))
        left = left[size:]
    begin, limit = data.draw(st.integers(0, 210)), data.draw(st.integers(1, 10))
    chunks = list(chunks_of("t", 3, runs, begin=begin, limit=limit))
    assert [offset for each in chunks for offset in each.offsets] == [offset for offset in found if offset >= begin]
    assert [int(value or b"") for each in chunks for value in each.values] == [o for o in found if o >= begin]
    assert all(1 <= len(each) <= limit for each in chunks)
    assert all(each.newest_ms >= max(each.timestamps_ms()) for each in chunks)


def test_a_record_on_demand_has_all_that_it_has():
    made = chunk([LogRecord(b"v", 7, 11, b"k", (("h", b"x"),))], topic="t", partition=2)
    assert made.record(0) == ("t", 2, 7, 11, b"k", b"v", (("h", b"x"),))


def test_a_record_is_never_taken_for_later_than_a_time_that_can_be_written_down():
    records = [LogRecord(b"a", 1, 5), LogRecord(b"b", 2, 2**62)]
    assert chunk(records).timestamps_ms() == [5, LATEST_MS]
    # A broker may keep a batch's header as its producer wrote it.
    assert RecordChunk("t", 0, records, newest_ms=5).timestamps_ms() == [5, LATEST_MS]
    # A window of an hour behind it, of an event a day ahead of its record.
    assert moment_of(LATEST_MS + 86_400_000 + 3_600_000).year == 9999


def test_refused_records_and_tombstones_give_empty_payloads():
    made = chunk([LogRecord(b"a", 1), LogRecord(None, 2), LogRecord(b"c", 3, headers=(("invalid", b"BadText: x"),))])
    refusals = made.refusals()
    assert {index: error.limit for index, error in refusals.items()} == {2: "BadText: x"}
    assert made.payloads(without=refusals) == [b"a", b"", b""]
    assert made.payloads() == [b"a", b"", b"c"]


def test_records_are_let_go_when_all_agents_of_the_topic_have_folded_them():
    made = chunk([LogRecord(b"a", 1)])
    made.readers = 2
    made.release()
    assert made.payloads() == [b"a"]
    made.release()
    assert made.payloads() == []
    assert list(made.offsets) == [1]
