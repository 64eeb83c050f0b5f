"""Batches as transactions, and producers that are stuck, on a real Apache Kafka."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from contracts.errors import ServerMissing
from contracts.names import Topic, kafka_topic
from runtime.settings import Settings
from streams import kafka_transactions
from streams.kafka_log import Cluster, Outgoing, Partition
from streams.kafka_producer import Producer
from streams.kafka_transactions import TransactionalProducer
from tests.support.aio import run
from tests.support.engine_load import make_topics
from tests.support.mirroring import connected
from tests.support.servers import kafka_is_embedded


def batch(settings: Settings, *values: bytes) -> list[Outgoing]:
    topic = kafka_topic(settings.prefix, Topic.ORDERS)
    return [Outgoing(topic, b"k", value, [], 1_000, 0) for value in values]


async def values(cluster: Cluster, settings: Settings) -> list[bytes | None]:
    return [r.value for r in await cluster.read_tail(Partition(kafka_topic(settings.prefix, Topic.ORDERS), 0), 100)]


def on_kafka(settings: Settings, body: Callable[[Callable[[], Awaitable[Producer]], Cluster], Awaitable[None]]) -> None:
    """Run with a way to start producers of one transactional id; all of them are given up afterwards."""
    started: list[Producer] = []

    async def start() -> Producer:
        started.append(await kafka_transactions.start(settings.kafka, f"{settings.prefix}.mirror.orders"))
        return started[-1]

    async def scenario() -> None:
        await make_topics(settings)
        async with connected(settings) as cluster:
            try:
                await body(start, cluster)
            finally:
                for producer in started:
                    await producer.abandon()

    run(scenario(), timeout_s=60)


@pytest.mark.real
def test_a_new_owner_shuts_the_former_one_out(settings: Settings):
    async def body(start: Callable[[], Awaitable[Producer]], cluster: Cluster) -> None:
        one = await start()
        await one.send_all(batch(settings, b"a", b"b"))
        two = await start()
        with pytest.raises(ServerMissing):
            await one.send_all(batch(settings, b"late"))
        await two.send_all(batch(settings, b"c"))
        assert await values(cluster, settings) == [b"a", b"b", b"c"]

    on_kafka(settings, body)


@pytest.mark.real
def test_what_was_not_committed_is_never_seen(settings: Settings):
    async def body(start: Callable[[], Awaitable[Producer]], cluster: Cluster) -> None:
        one = await start()
        assert isinstance(one, TransactionalProducer)
        await one._connected.begin_transaction()
        await Producer.send_all(one, batch(settings, b"half"))
        assert await values(cluster, settings) == []
        await one.abandon()
        two = await start()
        await two.send_all(batch(settings, b"whole"))
        assert await values(cluster, settings) == [b"whole"]

    on_kafka(settings, body)


@pytest.mark.real
@pytest.mark.parametrize("transactions", [True, False])
def test_a_producer_whose_numbers_no_longer_fit_fails_and_a_new_one_goes_on(settings: Settings, *, transactions: bool):
    """OutOfOrderSequenceNumber: aiokafka alone would be stuck until the process ends (its issue 1017)."""

    async def body(start: Callable[[], Awaitable[Producer]], cluster: Cluster) -> None:
        async def made() -> Producer:
            return await start() if transactions else await kafka_transactions.start(settings.kafka, None)

        one = await made()
        await one.send_all(batch(settings, b"a"))
        numbers = one._connected._txn_manager._sequence_numbers
        for place in numbers:
            numbers[place] += 7
        with pytest.raises(ServerMissing):
            await one.send_all(batch(settings, b"b"))
        await one.abandon()
        two = await made()
        await two.send_all(batch(settings, b"b"))
        await two.abandon()
        assert await values(cluster, settings) == [b"a", b"b"]

    on_kafka(settings, body)


@pytest.mark.skipif(not kafka_is_embedded(), reason="a broker that names transactions and cannot serve them")
def test_a_broker_that_only_says_that_it_has_transactions_is_found_out(settings: Settings):
    async def scenario() -> None:
        producer = TransactionalProducer(settings.kafka, f"{settings.prefix}.mirror.orders")
        with pytest.raises(ServerMissing) as error:
            await producer.start()
        assert isinstance(error.value.__cause__, kafka_transactions._WITHOUT)
        plain = await kafka_transactions.start(settings.kafka, f"{settings.prefix}.mirror.orders")
        assert not isinstance(plain, TransactionalProducer)
        await plain.abandon()

    run(scenario())
