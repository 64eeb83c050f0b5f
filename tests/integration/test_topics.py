"""Creating topics on a real broker."""

from __future__ import annotations

import asyncio

from runtime.settings import Settings
from streams.kafka_log import NewTopic
from streams.topics import ensure, wanted
from tests.support.aio import run
from tests.support.mirroring import connected, eventually, settings_for
from tests.support.servers import kafka_is_embedded


def _settings(prefix: str, redis_url: str, kafka_url: str) -> Settings:
    return settings_for(prefix, redis_url, kafka_url, embedded=kafka_is_embedded())


def test_missing_topics_are_created_once(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = _settings(prefix, redis_url, kafka_url)
        names = [topic.name for topic in wanted(settings)]
        async with connected(settings) as cluster:
            assert await ensure(cluster, settings) == names
            assert await ensure(cluster, settings) == []
            found = await cluster.topics()
        assert {found[name] for name in names} == {settings.kafka.partitions}

    run(scenario())


def test_a_topic_that_exists_keeps_its_partitions(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = _settings(prefix, redis_url, kafka_url)
        name = f"{prefix}.orders"

        async def visible() -> bool:
            return name in await cluster.topics()

        async with connected(settings) as cluster:
            await cluster.create_topics([NewTopic(name, 2, 1, {})])
            await eventually(visible)
            assert name not in await ensure(cluster, settings)
            assert (await cluster.topics())[name] == 2

    run(scenario())


def test_several_processes_may_create_them_at_once(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = _settings(prefix, redis_url, kafka_url)
        async with connected(settings) as one, connected(settings) as two, connected(settings) as three:
            await asyncio.gather(*(ensure(cluster, settings) for cluster in (one, two, three)))
            assert set(await one.topics()) >= {topic.name for topic in wanted(settings)}

    run(scenario())
