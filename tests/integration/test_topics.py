"""Creating topics on a real broker."""

from __future__ import annotations

import asyncio

from runtime.settings import Settings
from streams.kafka_log import Cluster, NewTopic
from streams.topics import ensure, wanted
from tests.support.aio import run
from tests.support.mirroring import settings_for
from tests.support.servers import kafka_is_embedded


def _settings(prefix: str, redis_url: str, kafka_url: str) -> Settings:
    return settings_for(prefix, redis_url, kafka_url, embedded=kafka_is_embedded())


def test_missing_topics_are_created_once(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = _settings(prefix, redis_url, kafka_url)
        cluster = Cluster(settings.kafka)
        await cluster.start()
        names = [topic.name for topic in wanted(settings)]
        assert await ensure(cluster, settings) == names
        assert await ensure(cluster, settings) == []
        found = await cluster.topics()
        assert {found[name] for name in names} == {settings.kafka.partitions}
        await cluster.stop()

    run(scenario())


def test_a_topic_that_exists_keeps_its_partitions(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = _settings(prefix, redis_url, kafka_url)
        cluster = Cluster(settings.kafka)
        await cluster.start()
        name = f"{prefix}.orders"
        await cluster.create_topics([NewTopic(name, 2, 1, {})])
        assert name not in await ensure(cluster, settings)
        assert (await cluster.topics())[name] == 2
        await cluster.stop()

    run(scenario())


def test_several_processes_may_create_them_at_once(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = _settings(prefix, redis_url, kafka_url)
        clusters = [Cluster(settings.kafka) for _ in range(3)]
        await asyncio.gather(*(cluster.start() for cluster in clusters))
        await asyncio.gather(*(ensure(cluster, settings) for cluster in clusters))
        assert set(await clusters[0].topics()) >= {topic.name for topic in wanted(settings)}
        await asyncio.gather(*(cluster.stop() for cluster in clusters))

    run(scenario())
