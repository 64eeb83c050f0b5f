"""Sending, reading and questions, on a real broker."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Self

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts.errors import ServerMissing
from headrace.servers import probes, tansu
from runtime.clock import SystemClock
from runtime.settings import KafkaSettings
from streams import log_tail
from streams.kafka_log import Cluster, Fetched, NewTopic, Outgoing, Partition, Record, partition_for
from streams.kafka_producer import BATCH_BYTES, BatchRecord, BatchTooLarge, Producer
from streams.tail_reader import TailReader
from tests.support.aio import run
from tests.support.kafka import hide_batch
from tests.support.mirroring import eventually
from tests.support.servers import kafka_is_embedded

PARTITIONS = 4
LEAVES_S = 0.3


class Bench:
    """A topic with four partitions, a connection to ask and one to send."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self.settings = settings
        self.topic = topic
        self.cluster = Cluster(settings)
        self.producer = Producer(settings)
        self.places = [Partition(topic, number) for number in range(PARTITIONS)]

    async def __aenter__(self) -> Self:
        await self.cluster.start()
        await self.cluster.create_topics([NewTopic(self.topic, PARTITIONS, 1, {"max.message.bytes": "2097152"})])
        await eventually(self._visible)
        await self.cluster.refresh()
        await self.producer.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.producer.stop()
        await self.cluster.stop()

    async def _visible(self) -> bool:
        return (await self.cluster.topics()).get(self.topic) == PARTITIONS

    def record(self, key: str, value: str) -> Outgoing:
        return Outgoing(self.topic, key.encode(), value.encode(), [("h", b"1")], 1_700_000_000_000)


@pytest.fixture
def made(kafka_url: str, prefix: str) -> Bench:
    return Bench(KafkaSettings(bootstrap=kafka_url, idempotence=not kafka_is_embedded()), f"{prefix}.log")


def test_records_are_acknowledged_with_their_places_and_keep_their_order(made: Bench):
    async def scenario() -> None:
        async with made:
            sent = [made.record(f"k{n % 7}", f"v{n}") for n in range(100)]
            positions = await made.producer.send_all(sent)
            read: list[Record] = []
            for place in made.places:
                read += await made.cluster.read_tail(place, 1000)
            by_place = {(r.partition, r.offset): r for r in read}
            assert len(by_place) == 100
            for outgoing, position in zip(sent, positions, strict=True):
                record = by_place[position.partition, position.offset]
                assert (record.key, record.value) == (outgoing.key, outgoing.value)
                assert position.partition == partition_for(outgoing.key or b"", PARTITIONS)
                assert record.headers == (("h", b"1"),)
                assert record.timestamp_ms == outgoing.timestamp_ms

    run(scenario())


def test_the_end_of_a_log_is_right_behind_a_batch_of_many_records(made: Bench):
    """The embedded broker's own answer is the base of the last batch plus one."""

    async def scenario() -> None:
        async with made:
            place = made.places[0]
            ends: list[int] = []
            for count in (3, 16, 1, 5):
                batch = [BatchRecord(b"k", b"v", 1) for _ in range(count)]
                assert await made.producer.send_batch(made.topic, 0, batch) == (ends[-1] if ends else 0)
                ends.append((await made.cluster.true_end_offsets([place]))[place])
            assert ends == [3, 19, 20, 25]
            assert await made.cluster.true_end_offsets(made.places[1:]) == dict.fromkeys(made.places[1:], 0)
            assert [r.offset for r in await made.cluster.read_tail(place, 7)] == list(range(18, 25))

    run(scenario())


def test_a_batch_is_sent_whole_or_not_at_all(made: Bench):
    async def scenario() -> None:
        async with made:
            with pytest.raises(BatchTooLarge, match="holds only 1 records"):
                await made.producer.send_batch(made.topic, 0, [BatchRecord(b"k", b"x" * (BATCH_BYTES // 2), 1)] * 2)
            assert (await made.cluster.true_end_offsets(made.places[:1]))[made.places[0]] == 0

    run(scenario())


def test_a_record_of_a_mebibyte_passes_and_so_does_a_tombstone(made: Bench):
    async def scenario() -> None:
        async with made:
            big = made.record("k", "x" * 1024 * 1024)
            positions = await made.producer.send_all([big, made.record("k", "after"), big])
            place = Partition(made.topic, positions[0].partition)
            tail = await made.cluster.read_tail(place, 3)
            assert [len(record.value or b"") for record in tail] == [1024 * 1024, 5, 1024 * 1024]
            await made.producer.send_batch(made.topic, place.number, [BatchRecord(b"k", None, 1)])
            assert (await made.cluster.read_tail(place, 1))[0].value is None

    run(scenario())


def test_a_topic_that_is_missing_is_an_error_and_is_not_created(made: Bench):
    async def scenario() -> None:
        async with made:
            absent = f"{made.topic}-absent"
            with pytest.raises(ServerMissing, match="does not exist"):
                await made.producer.send_all([Outgoing(absent, b"k", b"v", [], 1)])
            assert await made.cluster.incarnation(absent) == (await made.cluster.epoch(), 0)
            assert await made.cluster.topics([absent, made.topic]) == {made.topic: PARTITIONS}
            assert absent not in await made.cluster.topics()

    run(scenario())


@pytest.mark.real
def test_a_client_learns_of_the_topics_that_it_uses_and_of_no_others(made: Bench):
    """What a cluster of thousands says of all of them would hold up a process at each start of a client.

    The embedded broker tells of all when it is asked for none.
    """

    async def scenario() -> None:
        async with made:
            other = f"{made.topic}.other"
            await made.cluster.create_topics([NewTopic(other, 1, 1, {})])
            await made.producer.send_all([made.record("k", "v")])
            await made.producer.send_batch(made.topic, 0, [BatchRecord(b"k", b"v", 1)])
            assert await made.cluster.true_end_offsets(made.places)
            for client in (made.cluster._client, made.producer._connected.client):
                assert client.cluster.topics() == {made.topic}

    run(scenario())


@pytest.mark.real
def test_a_tail_that_retention_overtakes_is_read_from_what_is_left(made: Bench):
    """Only on Apache Kafka: the embedded broker removes nothing."""

    async def scenario() -> None:
        async with made:
            place = made.places[0]
            for number in range(20):
                await made.producer.send_batch(made.topic, 0, [BatchRecord(b"k", b"%d" % number, 1)])
            admin = AIOKafkaAdminClient(bootstrap_servers=made.settings.bootstrap)
            await admin.start()
            try:
                await admin.delete_records({TopicPartition(*place): RecordsToDelete(before_offset=10)})
            finally:
                await admin.close()
            async with aclosing(log_tail.pieces(made.cluster, place, 0, 20)) as tail:
                found = [record.offset async for records in tail for record in records]
            assert found == list(range(10, 20))

    run(scenario())


def test_a_group_without_commits_has_committed_nothing(made: Bench, prefix: str):
    async def scenario() -> None:
        async with made:
            assert await made.cluster.committed(f"{prefix}-nobody", made.places) == {}

    run(scenario())


def test_a_cluster_that_is_not_there_is_told_in_one_error():
    async def scenario() -> None:
        settings = KafkaSettings(bootstrap=f"127.0.0.1:{probes.free_port()}", send_timeout_s=1.0)
        for client in (Cluster(settings), Producer(settings)):
            with pytest.raises(ServerMissing, match="Kafka at 127"):
                await client.start()
            await client.stop()

    run(scenario())


def test_a_reader_gets_the_tail_and_then_what_comes(made: Bench):
    async def scenario() -> None:
        async with made:
            await made.producer.send_all([made.record("k", f"old{n}") for n in range(10)])
            got: list[str] = []
            async with TailReader(made.settings, [made.topic], SystemClock(), tail_count=3) as reader:
                await made.producer.send_all([made.record("k", "new")])
                async for records in reader:
                    got += [(record.value or b"").decode() for record in records]
                    if "new" in got:
                        break
            assert got == ["old7", "old8", "old9", "new"]
            assert reader.epoch == await made.cluster.epoch()

    run(scenario())


@pytest.mark.skipif(not kafka_is_embedded(), reason="starts an embedded broker of its own")
def test_a_reader_survives_a_broker_that_forgot_everything(tmp_path: Path, prefix: str):
    async def scenario() -> None:
        port = probes.free_port()
        settings = KafkaSettings(bootstrap=f"127.0.0.1:{port}", idempotence=False, send_timeout_s=2.0)
        broker = await tansu.start(tmp_path / "one", port)
        try:
            async with Bench(settings, f"{prefix}.log") as first:
                await first.producer.send_all([first.record("k", f"before{n}") for n in range(50)])
                reader = TailReader(settings, [first.topic], SystemClock(), tail_count=50)
                async with reader:
                    assert await _take(reader, 50) == [f"before{n}" for n in range(50)]
                    epoch = reader.epoch
                    await broker.stop()
                    broker = await tansu.start(tmp_path / "two", port)
                    async with Bench(settings, first.topic) as second:
                        await second.producer.send_all([second.record("k", f"after{n}") for n in range(60)])
                        assert await _take(reader, 60) == [f"after{n}" for n in range(60)]
                    assert reader.epoch != epoch
        finally:
            await broker.stop()

    run(scenario())


def test_a_batch_that_is_seen_before_the_one_in_front_of_it_waits_for_that(
    made: Bench, monkeypatch: pytest.MonkeyPatch
):
    """The embedded broker shows batches of two producers so, once in some 100,000 on a busy machine."""

    async def scenario() -> None:
        async with made:
            for number in range(3):
                await made.producer.send_batch(made.topic, 0, [BatchRecord(b"k", b"%d" % number, 1)])
            looks = hide_batch(monkeypatch, base=1)
            settings = made.settings.model_copy(update={"idempotence": False})
            async with TailReader(settings, [made.topic], SystemClock(), tail_count=10) as reader:
                assert await _take(reader, 3) == ["0", "1", "2"]
            assert not looks

    run(scenario())


def test_a_leader_whose_end_lags_is_not_taken_for_a_log_that_was_emptied(made: Bench, monkeypatch: pytest.MonkeyPatch):
    """Such an answer comes of a broker that has just taken a partition over; one broker alone never gives it."""

    async def scenario() -> None:
        fetch, lagging = Cluster.fetch, list[bool]()

        async def fetched(self: Cluster, positions: Mapping[Partition, int], *, max_wait_ms: int = 1) -> list[Fetched]:
            answers = await fetch(self, positions, max_wait_ms=max_wait_ms)
            if lagging and lagging.pop():
                return [
                    answer._replace(records=[], next_offset=positions[answer.partition], end=0) for answer in answers
                ]
            return answers

        async with made:
            await made.producer.send_all([made.record("k", f"old{n}") for n in range(5)])
            async with TailReader(made.settings, [made.topic], SystemClock(), tail_count=50) as reader:
                got: list[bytes | None] = []
                async for records in reader:
                    got += [record.value for record in records]
                    if got[-1] == b"new":
                        break
                    monkeypatch.setattr(Cluster, "fetch", fetched)
                    lagging.append(True)
                    await made.producer.send_all([made.record("k", "new")])
                assert got == [*(b"old%d" % n for n in range(5)), b"new"]
            assert not lagging

    run(scenario())


async def _take(reader: TailReader, count: int) -> list[str]:
    values: list[str] = []
    async for records in reader:
        values += [(record.value or b"").decode() for record in records]
        if len(values) >= count:
            break
    return values


def test_a_topic_that_was_made_after_the_producer_started_can_be_sent_to(made: Bench):
    async def scenario() -> None:
        early = Producer(made.settings)
        async with made:
            await early.start()
            later = f"{made.topic}.later"
            await made.cluster.create_topics([NewTopic(later, 1, 1, {})])

            async def seen() -> bool:
                return later in await made.cluster.topics()

            await eventually(seen)
            assert await early.send_batch(later, 0, [BatchRecord(b"k", b"v", 1_700_000_000_000)]) == 0
            await early.stop()

    run(scenario())


def test_a_producer_that_was_given_up_says_so(made: Bench):
    async def scenario() -> None:
        async with made:
            await made.producer.abandon()
            with pytest.raises(ServerMissing, match="given up"):
                await made.producer.send_all([made.record("k", "v")])
            with pytest.raises(ServerMissing, match="given up"):
                await made.producer.send_batch(made.topic, 0, [BatchRecord(b"k", b"v", 1)])

    run(scenario())


def test_what_fails_after_its_sender_gave_up_is_nobodys_unseen_exception(prefix: str, tmp_path: Path):
    """asyncio would report each as "Future exception was never retrieved", whenever it is collected."""
    complaints: list[object] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        port = probes.free_port()
        settings = KafkaSettings(bootstrap=f"127.0.0.1:{port}", idempotence=False)
        broker = await tansu.start(tmp_path, port)
        try:
            async with Bench(settings, f"{prefix}.log") as bench:
                await bench.producer.partitions(bench.topic)
                os.kill(broker.pid, signal.SIGSTOP)
                # The first batch is on its way, the others wait behind it.
                sends = [
                    asyncio.create_task(bench.producer.send_batch(bench.topic, 0, [BatchRecord(b"k", b"v", 1)]))
                    for _send in range(3)
                ]
                await asyncio.sleep(LEAVES_S)
                for send in sends:
                    send.cancel()
                await asyncio.wait(sends)
                await bench.producer.abandon()
                os.kill(broker.pid, signal.SIGCONT)
        finally:
            await broker.stop()

    run(scenario())
    gc.collect()
    assert not complaints
