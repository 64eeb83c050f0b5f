"""What a broker refuses for good, on one that has rules (Apache Kafka; the embedded one takes everything)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from contracts.errors import Kind, SendRefused
from runtime.clock import SystemClock
from runtime.settings import AuthSettings, Settings
from streams import changelogs, topics
from streams.kafka_admin import Admin
from streams.kafka_connection import MAX_ASIDE_BYTES, MAX_RECORD_BYTES
from streams.kafka_log import NewTopic, Outgoing, Partition
from streams.kafka_outlet import Outlet
from tests.support.aio import run
from tests.support.kafka import alter_topic
from tests.support.mirroring import CLEAN, bench, eventually, recount, settings_for
from tests.support.processes import WORKER, process
from tests.support.servers import kafka_is_embedded

pytestmark = pytest.mark.skipif(kafka_is_embedded(), reason="the embedded broker refuses nothing")
LIMIT = "max.message.bytes"
EVENT_MS = 1_767_225_600_000  # 2026-01-01
FAR_FUTURE_MS = 4_000_000_000_000


@pytest.fixture
def here(prefix: str, redis_url: str, kafka_url: str) -> Settings:
    return settings_for(prefix, redis_url, kafka_url, embedded=False)


@asynccontextmanager
async def outlet(settings: Settings, topic: str, **config: str) -> AsyncIterator[Outlet]:
    """A topic of that configuration and what sends to it."""
    admin, made = Admin(settings.kafka), Outlet(settings.kafka, SystemClock())
    await admin.start()
    try:
        named = {name.replace("_", "."): value for name, value in config.items()}
        await topics.create(admin, settings.kafka, [NewTopic(topic, 2, 1, named)])
        await made.start()
        yield made
    finally:
        await made.stop()
        await admin.stop()


def test_records_beyond_the_topics_limit_are_refused_with_the_limit_and_what_to_do(here: Settings):
    topic = f"{here.prefix}.narrow"

    async def scenario() -> None:
        async with outlet(here, topic, max_message_bytes="10000") as out:
            with pytest.raises(SendRefused) as of_rows:
                await out.send_rows(topic, 1, [(b"k", b"x" * 20_000)])
            with pytest.raises(SendRefused) as of_record:
                await out.send_all([Outgoing(topic, b"k", b"x" * 20_000, [], 1, partition=0)])
            for number, refused in ((1, of_rows), (0, of_record)):
                text = str(refused.value)
                assert f"{topic}/{number}" in text
                assert f"{LIMIT} of the topic is 10000" in text
                assert f"--entity-name {topic} --add-config {LIMIT}={MAX_ASIDE_BYTES}" in text
            assert of_rows.value.kind is Kind.PERMANENT
            # The same outlet goes on with a fresh producer.
            assert await out.send_rows(topic, 1, [(b"k", b"small")]) == range(1)

    run(scenario())


def test_a_record_without_a_key_is_refused_by_a_compacted_topic(here: Settings):
    topic = f"{here.prefix}.compacted"

    async def scenario() -> None:
        async with outlet(here, topic, cleanup_policy="compact") as out:
            with pytest.raises(SendRefused, match=rf"{topic}/0.*InvalidRecord"):
                await out.send_all([Outgoing(topic, None, b"v", [], 1, partition=0)])

    run(scenario())


def test_a_timestamp_that_the_topic_does_not_allow_is_refused(here: Settings):
    topic = f"{here.prefix}.dated"

    async def scenario() -> None:
        async with outlet(here, topic, message_timestamp_after_max_ms="60000") as out:
            with pytest.raises(SendRefused, match=r"InvalidTimestamp.*clock"):
                await out.send_all([Outgoing(topic, b"k", b"v", [], FAR_FUTURE_MS, partition=0)])

    run(scenario())


def test_one_refused_partition_is_told_and_the_others_get_their_records(here: Settings):
    topic = f"{here.prefix}.both"

    async def scenario() -> None:
        async with outlet(here, topic, max_message_bytes="10000") as out:
            with pytest.raises(SendRefused, match=f"{topic}/1"):
                await out.send_all([Outgoing(topic, b"k", b"v" * size, [], 1, n) for n, size in ((0, 10), (1, 20_000))])
            admin = Admin(here.kafka)
            await admin.start()
            try:
                assert await admin.true_end_offsets([Partition(topic, 0), Partition(topic, 1)]) == {
                    Partition(topic, 0): 1,
                    Partition(topic, 1): 0,
                }
            finally:
                await admin.stop()

    run(scenario())


def test_a_record_of_the_largest_size_can_be_set_aside(here: Settings):
    async def scenario() -> None:
        async with outlet(here, f"{here.prefix}.unused") as out:
            admin = Admin(here.kafka)
            await admin.start()
            try:
                await topics.ensure(admin, here)
            finally:
                await admin.stop()
            source, late = f"{here.prefix}.tools", f"{here.prefix}.late"
            # 61 bytes of the batch, 30 of the record: the largest that the source takes.
            value = b"x" * (MAX_RECORD_BYTES - 91)
            await out.send_all([Outgoing(source, b"tenant", value, [], 1, partition=0)])
            with pytest.raises(SendRefused):
                await out.send_all([Outgoing(source, b"tenant", value + b"x" * 30, [], 1, partition=0)])
            await out.send_all([Outgoing(late, b"tenant", value, [("late_for", b"x" * 200)], 1, partition=0)])

    run(scenario())


@pytest.mark.timeout(90)
def test_a_worker_whose_rows_are_refused_ends_with_the_reason_and_its_successor_counts_them(
    here: Settings, tmp_path: Path
):
    worker = here.worker.model_copy(update={"data_dir": tmp_path / "worker"})
    auth = AuthSettings(secret=SecretStr("only-for-tests-" + "0" * 32))
    settings = here.model_copy(update={"worker": worker, "auth": auth})
    changelog = f"{settings.worker.group}-tool_latency-changelog"
    body = b'{"event":"tool_call","version":"1.0","tool":"t","args":{},"latency_ms":1,"ts":"2026-01-01T00:00:00Z"}'

    async def scenario() -> None:
        admin, out = Admin(here.kafka), Outlet(here.kafka, SystemClock())
        await admin.start()
        try:
            await topics.ensure(admin, settings)
            await changelogs.ensure(admin, settings, [changelog])
            await alter_topic(here.kafka, changelog, {**changelogs.CONFIG, LIMIT: "100"})
            await out.start()
            await out.send_all([Outgoing(f"{here.prefix}.tools", b"t1", body, [("tenant", b"t1")], EVENT_MS, 0)])
            with process(WORKER, settings, tmp_path / "worker.log") as started:
                assert await asyncio.to_thread(started.running.wait, 40) == 1
                said = started.log.read_text()
                assert f"{changelog}/0 for good: MessageSizeTooLargeError" in said
                assert f"{LIMIT} of the topic is 100" in said
                assert await admin.committed(settings.worker.group, [Partition(f"{here.prefix}.tools", 0)]) == {}
                await alter_topic(here.kafka, changelog, changelogs.CONFIG)
                started.start()

                async def counted() -> bool:
                    return (await admin.true_end_offsets([Partition(changelog, 0)]))[Partition(changelog, 0)] > 1

                await eventually(counted, timeout_s=30)
        finally:
            await out.stop()
            await admin.stop()

    run(scenario(), timeout_s=85)


def test_a_stream_whose_records_are_refused_stands_and_goes_on_when_the_limit_is_raised(here: Settings):
    async def scenario() -> None:
        async with bench(here) as at:
            async with at.mirror() as (_, health):
                await at.publish(range(50))
                await at.until(50)
                assert health.ready
            await alter_topic(here.kafka, at.topic, {LIMIT: "600"})
            async with at.mirror() as (metrics, health):
                await at.publish(range(50, 400))

                async def told() -> bool:
                    detail = str(health.as_json()["ready"].get("mirror orders"))
                    return "refuses" in detail and f"{LIMIT} of the topic is 600" in detail

                await eventually(told)
                failures = metrics.registry.get_sample_value(
                    "headrace_mirror_failures_total", {"stream": "orders", "server": "Kafka"}
                )
                assert failures
                await alter_topic(here.kafka, at.topic, {LIMIT: str(MAX_RECORD_BYTES)})
                await at.until(400)
            assert recount(await at.records(), range(400)) == CLEAN

    run(scenario(), timeout_s=60)
