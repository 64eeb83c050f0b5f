"""Where a mirror starts, what it skips, how much it reads."""

from __future__ import annotations

import pytest

from streams.mirror_plan import (
    REMEMBER_COUNT,
    START,
    TAIL_COUNT,
    Era,
    Memory,
    StreamId,
    era_of,
    next_read_count,
    parse_id,
    seen_in,
    start_after,
)
from streams.records import Partition, Record

P0, P1 = Partition("t", 0), Partition("t", 1)


def record(redis_id: str, dedupe_id: str, place: Partition = P0, epoch: int = 1) -> Record:
    headers = [("ce_id", dedupe_id.encode()), ("redis_id", redis_id.encode()), ("epoch", str(epoch).encode())]
    return Record(place.topic, place.number, 0, 0, b"", b"", headers)


def remembered(tails: dict[Partition, list[Record]], start: int = 100) -> Memory:
    """The memory of an owner that has read these tails, from offset `start` on."""
    memory = Memory()
    for place, records in tails.items():
        memory.begin(place, start)
        memory.learn(place, records)
    return memory


def test_ids_are_ordered_by_time_and_then_by_sequence():
    assert parse_id("9-10") > parse_id("9-9") > parse_id("8-11")
    assert str(parse_id("9-9").next()) == "9-10"


@pytest.mark.parametrize("text", ["", "12", "a-b", "1-2-3"])
def test_what_is_no_id_is_refused(text: str):
    with pytest.raises(ValueError, match="int"):
        parse_id(text)


def test_a_record_that_no_mirror_sent_says_nothing():
    assert seen_in(Record("t", 0, 0, 0, b"", b"", [])) is None
    assert seen_in(Record("t", 0, 0, 0, b"", b"", [("redis_id", b"nonsense")])) is None


def test_what_stands_in_the_tail_is_not_sent_again():
    memory = remembered({P0: [record("5-0", "a"), record("7-0", "b")], P1: []})
    assert memory.holds(P0, StreamId(7, 0), b"b", ids_tell=True)
    assert not memory.holds(P0, StreamId(8, 0), b"c", ids_tell=True)
    assert memory.last_id == StreamId(7, 0)


def test_an_entry_before_everything_remembered_was_sent_too():
    memory = remembered({P0: [record("5-0", "a")], P1: []})
    assert memory.holds(P0, StreamId(4, 9), b"x", ids_tell=True)
    assert not memory.holds(P1, StreamId(4, 9), b"x", ids_tell=True)


def test_ids_that_went_back_do_not_tell_what_was_sent():
    memory = remembered({P0: [record("5-0", "a")]})
    assert not memory.holds(P0, StreamId(4, 9), b"x", ids_tell=False)
    assert memory.holds(P0, StreamId(4, 9), b"a", ids_tell=False)


def test_the_highest_epoch_in_kafka_is_known():
    assert remembered({P0: [record("5-0", "a", epoch=7), record("6-0", "b", epoch=9)]}).epoch == 9


def test_what_was_sent_is_remembered_for_a_minute_and_within_bounds():
    memory = remembered({P0: [record("1-0", "tail")]})
    for number in range(TAIL_COUNT + 2):
        memory.sent(b"%d" % number, 0.0)
    assert memory.count == TAIL_COUNT + 3
    memory.sent(b"later", 61.0)
    assert [memory.holds(P0, StreamId(9, 0), d, ids_tell=True) for d in (b"2", b"3", b"later", b"tail")] == [
        False,
        True,
        True,
        True,
    ]
    for number in range(REMEMBER_COUNT + 10):
        memory.sent(b"n%d" % number, 62.0)
    assert memory.count == REMEMBER_COUNT + 1


def test_a_tail_that_is_the_whole_partition_tells_by_dedupe_ids_alone():
    memory = remembered({P0: [record("5-0", "a")]}, start=0)
    assert not memory.holds(P0, StreamId(4, 9), b"x", ids_tell=True)


def test_what_came_late_behind_a_fence_is_not_there():
    memory = remembered({P0: [record("5-0", "a", epoch=9), record("6-0", "b", epoch=8)]})
    assert memory.holds(P0, StreamId(5, 0), b"a", ids_tell=True)
    assert not memory.holds(P0, StreamId(6, 0), b"b", ids_tell=True)


def test_a_tail_reaches_back_only_when_each_partition_that_holds_anything_does():
    memory = remembered({P0: [record("5-0", "a")], P1: [record("9-0", "b", P1)]})
    assert memory.reaches(StreamId(9, 0))
    assert not memory.reaches(StreamId(7, 0))


def test_what_waited_says_nothing_about_how_far_back_a_tail_reaches():
    old = record("1-0", "waited")
    memory = remembered({P0: [record("5-0", "a"), old._replace(headers=[("parked", b"1"), *old.headers])]})
    assert not memory.reaches(StreamId(4, 0))
    assert memory.holds(P0, StreamId(1, 0), b"waited", ids_tell=False)


CHECKPOINT = {"position": "50-0", "cluster_epoch": "k1"}


def test_a_new_owner_goes_on_at_the_stored_position():
    start = start_after(CHECKPOINT, "k1", StreamId(60, 0), StreamId(55, 0))
    assert (start.after, start.ids_tell) == (StreamId(50, 0), True)


def test_without_a_position_everything_is_looked_at():
    start = start_after({}, "k1", StreamId(60, 0), StreamId(55, 0))
    assert (start.after, start.ids_tell) == (START, True)


def test_a_kafka_that_forgot_everything_gets_everything_that_redis_still_has():
    start = start_after(CHECKPOINT, "k2", StreamId(60, 0), START)
    assert (start.after, start.ids_tell) == (START, False)


@pytest.mark.parametrize(("last", "kafka_last"), [("49-0", "40-0"), ("52-0", "55-0"), ("0-0", "50-0")])
def test_a_redis_that_went_back_is_read_from_its_beginning(last: str, kafka_last: str):
    start = start_after(CHECKPOINT, "k1", parse_id(last), parse_id(kafka_last))
    assert (start.after, start.ids_tell) == (START, False)


def test_reading_grows_with_a_backlog_of_small_entries_and_shrinks_with_large_ones():
    assert next_read_count(64, 0, 0, 500) == 64
    assert next_read_count(64, 64, 20_000, 500) == 128
    assert next_read_count(400, 400, 100_000, 500) == 500
    assert next_read_count(500, 500, 500 * 1024 * 1024, 500) == 2
    assert next_read_count(2, 2, 2 * 1024 * 1024, 500) == 4
    assert next_read_count(64, 10, 3_000, 500) == 64


def era(checkpoint: dict[str, str], run_id: str = "r1", now_ms: float = 90_000_000) -> Era:
    return era_of(checkpoint, run_id, StreamId(80_000_000, 0), history_ms=3_000_000, now_ms=now_ms)


def test_a_redis_that_restarted_may_have_forgotten_what_came_behind_its_position():
    first = era({"position": "70000000-5"})
    assert first == Era("r1", 90_000_000, StreamId(69_990_000, 0))
    stored = {"position": "95000000-0", **{name: str(value) for name, value in first.fields().items()}}
    assert era(stored, now_ms=91_000_000) == first
    assert not first.is_over(90_900_000)
    assert first.is_over(90_900_001)
    assert era(stored, run_id="r2").know_from == StreamId(79_990_000, 0)


def test_of_a_redis_that_was_emptied_all_may_come_again_that_relays_remember():
    assert era({}).know_from == StreamId(76_990_000, 0)
    assert era_of({}, "r1", START, history_ms=3_000_000, now_ms=0).know_from == START
