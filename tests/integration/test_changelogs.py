"""Changelog topics and topic incarnations on a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from contracts.errors import ServerMissing, SettingsError
from runtime.settings import Settings
from streams import changelogs, topics
from streams.changelogs import ChangelogWatch
from streams.kafka_admin import Admin
from streams.kafka_log import NewTopic
from streams.kafka_producer import BatchRecord, Producer
from tests.support.aio import run
from tests.support.kafka import delete_topic
from tests.support.mirroring import settings_for
from tests.support.servers import kafka_is_embedded


@pytest.fixture
def here(prefix: str, redis_url: str, kafka_url: str) -> Settings:
    return settings_for(prefix, redis_url, kafka_url, embedded=kafka_is_embedded())


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[Admin]:
    cluster = Admin(settings.kafka)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


async def made(cluster: Admin, settings: Settings, name: str, **config: str) -> None:
    await topics.create(cluster, settings.kafka, [NewTopic(name, settings.kafka.partitions, 1, config)])


def test_a_changelog_is_created_with_its_settings(here: Settings):
    async def scenario() -> None:
        name = f"{here.prefix}-x-changelog"
        async with admin(here) as cluster:
            await changelogs.ensure(cluster, here, [name])
            await changelogs.ensure(cluster, here, [name])
            assert (await cluster.topics())[name] == here.kafka.partitions
            assert (await cluster.configs([name]))[name].items() >= changelogs.CONFIG.items()

    run(scenario())


def test_a_changelog_that_deletes_by_age_is_refused(here: Settings):
    async def scenario() -> None:
        name = f"{here.prefix}-x-changelog"
        async with admin(here) as cluster:
            await made(cluster, here, name, **{"cleanup.policy": "delete"})
            with pytest.raises(SettingsError, match=rf"{name}: cleanup.policy is 'delete'.*kafka-configs.sh"):
                await changelogs.ensure(cluster, here, [name])

    run(scenario())


def test_a_changelog_with_other_partitions_is_refused(here: Settings):
    async def scenario() -> None:
        name = f"{here.prefix}-x-changelog"
        async with admin(here) as cluster:
            await topics.create(cluster, here.kafka, [NewTopic(name, 3, 1, {"cleanup.policy": "compact"})])
            with pytest.raises(SettingsError, match=rf"kafka\.partitions: .* {name} has 3"):
                await changelogs.ensure(cluster, here, [name])

    run(scenario())


def test_a_topic_that_was_created_again_is_another_incarnation(here: Settings):
    async def scenario() -> None:
        name, other = f"{here.prefix}.a", f"{here.prefix}.b"
        async with admin(here) as cluster:
            await made(cluster, here, name)
            await made(cluster, here, other)
            first = await cluster.incarnations([name, other, f"{here.prefix}.missing"])
            assert set(first) == {name, other}
            assert first[name] != first[other]
            assert await cluster.incarnations([name]) == {name: first[name]}
            await delete_topic(here.kafka, name)
            await made(cluster, here, name)
            again = await cluster.incarnations([name, other])
            assert again[name] != first[name]
            assert again[other] == first[other]
            assert f"{here.prefix}.missing" not in await cluster.topics(), "asking creates nothing"

    run(scenario())


def test_the_true_end_of_a_changelog_is_seen_behind_a_batch_of_many_rows(here: Settings):
    async def scenario() -> None:
        name, source = f"{here.prefix}-x-changelog", f"{here.prefix}.tools"
        watch = ChangelogWatch(here.kafka, attempts=1)
        async with admin(here) as cluster:
            await made(cluster, here, source)
            with pytest.raises(ServerMissing, match=f"topic {name} does not exist"):
                await watch.look(name, source, [0, 1])
            await changelogs.ensure(cluster, here, [name])
            producer = Producer(here.kafka)
            await producer.start()
            for count in (1, 700):
                await producer.send_batch(name, 1, [BatchRecord(b"%d" % n, b"v", 1) for n in range(count)])
            await producer.stop()
            state = await watch.look(name, source, [0, 1])
        assert (state.begin, state.end) == ({0: 0, 1: 0}, {0: 0, 1: 701})
        assert state.incarnation != state.source_incarnation

    run(scenario())


def test_a_changelog_is_looked_at_again_while_it_is_not_there_yet(here: Settings):
    async def scenario() -> None:
        name, source = f"{here.prefix}-x-changelog", f"{here.prefix}.tools"
        async with admin(here) as cluster:
            await made(cluster, here, source)
            looking = asyncio.create_task(ChangelogWatch(here.kafka).look(name, source, [0]))
            await asyncio.sleep(0.2)
            assert not looking.done()
            await changelogs.ensure(cluster, here, [name])
            assert (await looking).end == {0: 0}

    run(scenario())
