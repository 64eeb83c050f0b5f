"""A member of a group that takes long over its partitions stays one, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.structs import TopicPartition

from headrace.worker_app import REBALANCE_S
from runtime.settings import Settings
from streams import join_heartbeat
from streams.kafka_log import Cluster, NewTopic
from tests.support.aio import run
from tests.support.engine_fleet import SESSION_S
from tests.support.mirroring import eventually

BOTH = {0, 1}


class Slow(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Takes up its partitions for longer than a session."""

    def __init__(self) -> None:
        self.taken_up: list[set[int]] = []
        self.heard = 0

    def listen(self, coordinator: GroupCoordinator) -> None:
        """Count the heartbeats that are answered until the partitions are taken up."""
        beat = coordinator._do_heartbeat

        async def counted() -> bool:
            answered: bool = await beat()
            self.heard += answered and not self.taken_up
            return answered

        coordinator._do_heartbeat = counted

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await asyncio.sleep(2.5 * SESSION_S)
        self.taken_up.append({tp.partition for tp in assigned})

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        pass


@asynccontextmanager
async def member(settings: Settings, topic: str, listener: Slow) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of the topic's group, as a worker is one."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        group_id=f"{topic}-group",
        enable_auto_commit=False,
        session_timeout_ms=int(1000 * SESSION_S),
        heartbeat_interval_ms=int(1000 * SESSION_S / 4),
        rebalance_timeout_ms=int(1000 * REBALANCE_S),
    )
    await consumer.start()
    try:
        listener.listen(consumer._coordinator)
        join_heartbeat.put_into(consumer._coordinator)
        consumer.subscribe([topic], listener=listener)
        yield consumer
    finally:
        await consumer.stop()


@pytest.mark.timeout(180)
def test_who_takes_longer_than_a_session_over_its_partitions_keeps_them(settings: Settings, prefix: str):
    async def scenario() -> None:
        topic, one, two = f"{prefix}.slow", Slow(), Slow()
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await cluster.create_topics([NewTopic(topic, 2, 1, {})])
        await cluster.stop()

        async def one_has_both() -> bool:
            return one.taken_up == [BOTH]

        async def each_has_one() -> bool:
            return bool(two.taken_up) and [len(one.taken_up[-1]), len(two.taken_up[-1])] == [1, 1]

        async with member(settings, topic, one) as first:
            await eventually(one_has_both)
            assert one.heard >= 2, "the embedded broker expels nobody as long as nobody else joins"
            async with member(settings, topic, two) as second:
                await eventually(each_has_one)
                taken_up = [len(one.taken_up), len(two.taken_up)]
                await asyncio.sleep(3 * SESSION_S)
                assert [len(one.taken_up), len(two.taken_up)] == taken_up, "nobody is expelled any more"
                assert len(first.assignment() | second.assignment()) == 2

    run(scenario(), timeout_s=170)
