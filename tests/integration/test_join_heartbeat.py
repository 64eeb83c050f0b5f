"""A member of a group that takes long over its partitions stays one, on a real broker."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

from runtime.settings import Settings
from streams import join_heartbeat
from streams.kafka_log import Cluster, NewTopic
from tests.support.aio import run
from tests.support.engine_fleet import SESSION_S
from tests.support.mirroring import eventually


class Slow(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Takes up its partitions for longer than a session."""

    def __init__(self) -> None:
        self.taken_up: list[set[TopicPartition]] = []
        self.revoked: list[set[TopicPartition]] = []
        self.heard = 0

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await asyncio.sleep(2.5 * SESSION_S)
        self.taken_up.append(assigned)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            self.revoked.append(revoked)


@pytest.mark.timeout(120)
def test_who_takes_longer_than_a_session_over_its_partitions_keeps_them(settings: Settings, prefix: str):
    async def scenario() -> None:
        topic, listener = f"{prefix}.slow", Slow()
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await cluster.create_topics([NewTopic(topic, 2, 1, {})])
        await cluster.stop()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka.bootstrap,
            group_id=f"{prefix}-slow",
            enable_auto_commit=False,
            session_timeout_ms=int(1000 * SESSION_S),
            heartbeat_interval_ms=int(1000 * SESSION_S / 4),
        )
        await consumer.start()
        try:
            coordinator = consumer._coordinator
            beat = coordinator._do_heartbeat

            async def counted() -> bool:
                answered: bool = await beat()
                listener.heard += answered and not listener.taken_up
                return answered

            coordinator._do_heartbeat = counted
            join_heartbeat.put_into(coordinator)
            consumer.subscribe([topic], listener=listener)

            async def taken_up() -> bool:
                return len(listener.taken_up) == 1

            await eventually(taken_up)
            await asyncio.sleep(SESSION_S)  # an expelled member would have heard of it by now
            assert listener.heard >= 2, "the embedded broker expels nobody as long as nobody else joins"
            assert listener.revoked == []
            assert consumer.assignment() == {TopicPartition(topic, number) for number in range(2)}
        finally:
            await consumer.stop()

    run(scenario())
