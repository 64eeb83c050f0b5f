"""Where a consumer was at its log's end, out of aiokafka's own fetcher state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from streams.log_ends import EndSeen, LogEnds
from streams.record_chunk import Run
from tests.support.aio import run
from tests.support.chunks import LogRecord
from tests.support.seams import fingerprint

PLACE = TopicPartition("t", 0)
NO_LSO = -1


class Reader:
    """A consumer's state as the fetcher leaves it after answers."""

    def __init__(self) -> None:
        subscriptions = SubscriptionState()
        subscriptions.subscribe({"t"})
        subscriptions.assign_from_subscribed([PLACE])
        self.state = subscriptions.subscription.assignment.state_value(PLACE)
        self.state.seek(0)
        self.source: Any = SimpleNamespace(_subscriptions=subscriptions, _records={})
        self.ends = LogEnds()

    def answered(self, at_ms: int, *, end: int, lso: int | None = None, brings: int = 0) -> None:
        self.state.highwater, self.state.lso, self.state.timestamp = end, end if lso is None else lso, at_ms
        if brings:
            self.source._records[PLACE] = [LogRecord(b"", self.state.position + n) for n in range(brings)]

    def take(self) -> None:
        records = self.source._records.pop(PLACE)
        self.state.consumed_to(records[-1].offset + 1)
        self.ends.handed_out(self.source, {PLACE: [Run(records, 0)]})

    def seen(self) -> EndSeen | None:
        # Faust's partitions are asked for, aiokafka's are kept.
        return self.ends.seen(self.source, TP("t", 0))


def reading(scenario: Any) -> None:  # noqa: ANN401
    async def inside() -> None:
        scenario(Reader())

    run(inside())


def test_aiokafka_is_at_this_seam_what_our_side_was_written_for():
    found = fingerprint(Fetcher._proc_fetch_request)
    assert found == "59bf948fff47", f"aiokafka {aiokafka.__version__} changed it: read it, then mend streams.log_ends"


def test_no_answer_is_no_end():
    reading(lambda reader: is_(reader.seen(), None))


def test_an_empty_answer_at_the_end_is_seen_and_each_anew():
    def scenario(reader: Reader) -> None:
        reader.answered(100, end=0)
        is_(reader.seen(), EndSeen(100, -1))
        is_(reader.seen(), EndSeen(100, -1))
        reader.answered(120, end=0)
        is_(reader.seen(), EndSeen(120, -1))

    reading(scenario)


def test_records_that_came_along_have_to_be_taken_first():
    def scenario(reader: Reader) -> None:
        reader.answered(100, end=3, brings=3)
        is_(reader.seen(), None)
        reader.take()
        is_(reader.seen(), EndSeen(100, 2))

    reading(scenario)


def test_an_answer_that_brings_a_part_of_the_backlog_is_not_the_end():
    def scenario(reader: Reader) -> None:
        reader.answered(100, end=10, brings=3)
        reader.take()
        is_(reader.seen(), None)
        reader.answered(110, end=10, brings=7)
        reader.take()
        is_(reader.seen(), EndSeen(110, 9))

    reading(scenario)


def test_an_end_in_the_midst_of_a_fetched_batch_is_not_believed_while_the_batch_is_not_taken():
    def scenario(reader: Reader) -> None:
        reader.state.seek(5)
        reader.answered(100, end=1, brings=3)  # the embedded broker: the last batch's first record, and one
        is_(reader.seen(), None)

    reading(scenario)


def test_records_of_an_open_transaction_are_not_there_yet():
    def scenario(reader: Reader) -> None:
        reader.answered(100, end=5, lso=0)
        is_(reader.seen(), EndSeen(100, -1))
        reader.answered(110, end=5, lso=NO_LSO)
        is_(reader.seen(), EndSeen(100, -1))

    reading(scenario)


def test_the_end_of_a_busy_log_is_seen_as_its_records_are_taken():
    def scenario(reader: Reader) -> None:
        reader.answered(100, end=3, brings=3)
        reader.take()
        reader.answered(110, end=9, brings=2)
        is_(reader.seen(), EndSeen(100, 2))

    reading(scenario)


def test_after_a_seek_nothing_is_known_until_the_next_answer():
    def scenario(reader: Reader) -> None:
        reader.answered(100, end=3, brings=3)
        reader.take()
        reader.ends.forget()
        reader.state.seek(0)
        is_(reader.seen(), None)
        reader.answered(110, end=3, brings=3)
        is_(reader.seen(), None)

    reading(scenario)


def test_a_partition_that_is_not_ours_has_no_end():
    reading(lambda reader: is_(reader.ends.seen(reader.source, TP("t", 1)), None))


def is_(found: EndSeen | None, expected: EndSeen | None) -> None:
    assert found == expected
