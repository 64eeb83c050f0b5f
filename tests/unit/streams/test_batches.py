"""The seams of Faust that streams.batches leans on, and what it does at them."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import faust
import pytest
from faust.app.base import BootStrategy
from faust.tables.base import Collection
from faust.tables.recovery import Recovery
from faust.transport import consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.logging import CompositeLogger

from runtime.settings import KafkaSettings
from streams.batches import BatchConsumer
from streams.log_ends import EndSeen, LogEnds
from streams.source_epochs import SourceEpochs
from tests.support.aio import run
from tests.support.chunks import LogRecord
from tests.support.seams import fingerprint

TP0 = TP("t", 0)

# The source of each function that is overridden or relied on, as it was read when our side was written. When a new
# Faust changes one: read the change, mend our side, then write the new number here.
SEAMS: dict[str, tuple[Callable[..., object], str]] = {
    "Consumer.getmany": (consumer.Consumer.getmany, "4b168d84882a"),
    "Consumer._new_offset": (consumer.Consumer._new_offset, "1d2c7ea89a7a"),
    "Consumer._add_gap": (consumer.Consumer._add_gap, "4df2573ded7c"),
    "Consumer._commit_offsets": (consumer.Consumer._commit_offsets, "1a6979904118"),
    "Consumer.ack": (consumer.Consumer.ack, "5fcf41cf4515"),
    "Consumer.perform_seek": (consumer.Consumer.perform_seek, "0e8c130ff4b0"),
    "Consumer.on_partitions_revoked": (consumer.Consumer.on_partitions_revoked, "d04b7ae72c6f"),
    "Consumer.verify_all_partitions_active": (consumer.Consumer.verify_all_partitions_active, "4e0e46f5c297"),
    "Consumer._wait_next_records": (consumer.Consumer._wait_next_records, "6218e1969a63"),
    "AIOKafkaConsumerThread._create_worker_consumer": (
        driver.AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc3e6f",
    ),
    "AIOKafkaConsumerThread._highwaters": (driver.AIOKafkaConsumerThread._highwaters, "a7f4f97d9f32"),
    "Recovery.on_recovery_completed": (Recovery.on_recovery_completed, "6ef567acf072"),
    "Recovery._build_highwaters": (Recovery._build_highwaters, "91b4cc0d3724"),
    "Collection.apply_changelog_batch": (Collection.apply_changelog_batch, "b980a78d3ae9"),
    "BootStrategy.web_server": (BootStrategy.web_server, "3caebb79a3b3"),
}


@pytest.mark.parametrize("name", SEAMS)
def test_faust_is_at_this_seam_what_our_side_was_written_for(name: str):
    function, expected = SEAMS[name]
    assert fingerprint(function) == expected, (
        f"faust-streaming {faust.__version__} changed {name}: read it, then mend ours"
    )


class BatchesOfT(BatchConsumer):
    """Topic t is read in chunks."""

    batch_topics = frozenset({"t"})


class Acknowledged:
    """The parts of a consumer that commit positions come from, over a broker that takes commits or not."""

    def __init__(self) -> None:
        self.consumer = BatchesOfT.__new__(BatchesOfT)
        self.consumer._delivered = defaultdict(deque)
        self.consumer._acked_index = defaultdict(set)
        self.consumer._acked = defaultdict(list)
        self.consumer._committed_offset = defaultdict(lambda: None)
        self.consumer._epochs = SourceEpochs(KafkaSettings(), ())
        self.consumer.in_transaction = False
        self.answers = [True]
        self.asked: list[dict[TP, int]] = []
        for name, stand_in in {
            "_crashed": asyncio.Event(),
            "log": CompositeLogger(logging.getLogger(__name__)),
            "assignment": lambda: {TP0},
            "_commit": self._answered,
            "app": SimpleNamespace(
                producer=SimpleNamespace(flush=answering(None)),
                tables=SimpleNamespace(on_commit=lambda _offsets: None),
                monitor=SimpleNamespace(on_tp_commit=lambda _offsets: None),
                _attachments=SimpleNamespace(publish_for_tp_offset=answering(None)),
            ),
        }.items():
            setattr(self.consumer, name, stand_in)

    async def _answered(self, offsets: dict[TP, int]) -> bool:
        self.asked.append(offsets)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def commit(self) -> bool:
        return run(self.consumer._commit_tps([TP0], start_new_transaction=False))

    def deliver(self, *last_offsets: int) -> None:
        self.consumer._delivered[TP0].extend(last_offsets)

    def acknowledge(self, last_offset: int) -> None:
        self.consumer._acked_index[TP0].add(last_offset)
        self.consumer._acked[TP0].append(last_offset)

    def committable(self) -> int | None:
        return self.consumer._new_offset(TP0)


def test_only_the_acknowledged_prefix_of_chunks_is_committed():
    position = Acknowledged()
    position.deliver(9, 19, 29)
    position.acknowledge(19)
    assert position.committable() is None
    position.acknowledge(9)
    assert position.committable() == 20
    assert position.commit()
    assert position.committable() is None
    position.acknowledge(29)
    assert position.committable() == 30


def test_a_commit_that_failed_is_tried_again_though_nothing_more_comes():
    position = Acknowledged()
    position.deliver(9, 19)
    position.acknowledge(9)
    position.answers = [False, True]
    assert not position.commit()
    assert position.commit()
    position.acknowledge(19)
    position.answers = [False, False, True]
    assert [position.commit() for _ in range(4)] == [False, False, True, False]
    assert [offsets[TP0] for offsets in position.asked] == [10, 10, 20, 20, 20]


def test_a_worker_without_partitions_has_nothing_to_seek_and_says_so_to_nobody():
    consumer = BatchesOfT.__new__(BatchesOfT)
    consumer._seek_again = True
    consumer.flow_active = True
    for name, stand_in in {
        "assignment": set,
        "_wait_next_records": answering(({}, set())),
        "app": SimpleNamespace(rebalancing=False, rebalancing_count=0, consumer_generation_id=1),
        "scheduler": SimpleNamespace(iterate=lambda _records: ()),
        "_stopped": asyncio.Event(),
        "_crashed": asyncio.Event(),
    }.items():
        setattr(consumer, name, stand_in)

    async def scenario() -> None:
        assert [found async for found in consumer.getmany(1.0)] == []

    run(scenario())
    assert not consumer._seek_again


def test_after_a_seek_nothing_is_known_of_the_logs_end():
    consumer = BatchesOfT.__new__(BatchesOfT)
    consumer._delivered, consumer._last, consumer._ends = defaultdict(deque), {}, LogEnds()
    consumer._ends._seen[TP0] = EndSeen(1, 7)
    consumer._forget_delivered()
    assert not consumer._ends._seen


def test_gaps_between_chunks_do_not_hold_the_commit_back():
    position = Acknowledged()
    position.deliver(100, 5_000)
    position.acknowledge(100)
    position.acknowledge(5_000)
    assert position.committable() == 5_001


def test_a_position_that_is_being_looked_up_ends_no_worker(monkeypatch: pytest.MonkeyPatch):
    def asserts(*_place: object) -> None:
        raise AssertionError

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "verify_event_path", asserts)
    at = Acknowledged()
    for name, stand_in in {
        "_thread": driver.AIOKafkaConsumerThread.__new__(driver.AIOKafkaConsumerThread),
        "_stopped": asyncio.Event(),
        "sleep": answering(None),
    }.items():
        setattr(at.consumer, name, stand_in)
    run(at.consumer.verify_all_partitions_active())


def test_what_a_fetch_brings_that_a_rebalance_has_overtaken_is_read_again():
    consumer = BatchesOfT.__new__(BatchesOfT)
    consumer._seek_again = False
    assert consumer._without_sources({TP("changelog", 0): ["row"]}) == {TP("changelog", 0): ["row"]}
    assert not consumer._seek_again
    assert consumer._without_sources({TP("changelog", 0): ["row"], TP0: ["chunk"]}) == {TP("changelog", 0): ["row"]}
    assert consumer._seek_again


def test_what_was_read_of_a_partition_that_is_paused_meanwhile_is_handed_out_all_the_same():
    consumer, other = BatchesOfT.__new__(BatchesOfT), TP("t", 1)
    consumer._active_partitions, consumer._paused_partitions = {TP0, other}, set()
    consumer._seek_again, consumer._last, consumer._delivered = False, {}, defaultdict(deque)
    consumer._read_offset = defaultdict(lambda: None)
    consumer.flow_active = True
    consumer.app = cast(
        "Any",
        SimpleNamespace(
            rebalancing=False,
            rebalancing_count=0,
            consumer_generation_id=1,
            tables=SimpleNamespace(changelog_topics=frozenset()),
            monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None),
        ),
    )
    fetched = {other: [LogRecord(b"a", 0)], TP0: [LogRecord(b"b", 7), LogRecord(b"c", 8)]}
    given: list[tuple[int, Sequence[int]]] = []

    for name, stand_in in {
        "_wait_next_records": answering((fetched, consumer._active_partitions)),
        "scheduler": SimpleNamespace(iterate=lambda _records: ()),
        "highwater": lambda _tp: 0,
        "_stopped": asyncio.Event(),
        "_crashed": asyncio.Event(),
    }.items():
        setattr(consumer, name, stand_in)

    async def scenario() -> None:
        async for tp, message in consumer.getmany(1.0):
            given.append((tp.partition, cast("Any", message.value).offsets))
            consumer.pause_partitions({TP0})

    run(scenario())
    assert given == [(1, range(1)), (0, range(7, 9))]


def answering(answer: object) -> Callable[..., Awaitable[object]]:
    async def answered(*_args: object) -> object:
        return answer

    return answered
