"""The mirror on real Redis and Kafka: what comes, in which order, and what happens when a server forgets."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from contracts.names import LAG_CHANNEL, Stream, Topic, kafka_topic, redis_stream
from contracts.push import decode
from headrace.servers import probes, tansu, valkey
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.kafka_log import Partition
from streams.leases import Leases
from streams.mirror_record import INVALID
from streams.redis_log import NewEntry
from tests.support.aio import run
from tests.support.mirroring import CLEAN, Bench, bench, connected, eventually, numbers_of, recount, settings_for
from tests.support.servers import kafka_is_embedded

embedded_only = pytest.mark.skipif(not kafka_is_embedded(), reason="starts embedded servers of its own")


@pytest.fixture
def mirror_settings(prefix: str, redis_url: str, kafka_url: str) -> Settings:
    return settings_for(prefix, redis_url, kafka_url, embedded=kafka_is_embedded())


def test_every_entry_comes_once_and_in_order_before_and_while_the_mirror_runs(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at:
            await at.publish(range(700))
            async with at.mirror():
                await at.publish(range(700, 1500))
                await at.until(1500)
            assert recount(await at.records(), range(1500)) == CLEAN

    run(scenario())


def test_a_mirror_that_stops_in_order_gives_its_streams_to_the_next_one_at_once(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at:
            for turn in range(4):
                async with at.mirror():
                    await at.publish(range(100 * turn, 100 * turn + 100))
                    await at.until(100 * turn + 100)
                leases = Leases(at.redis, at.settings.prefix)
                for stream in Stream:
                    lease = await leases.acquire(redis_stream(at.settings.prefix, stream), "test", 1.0)
                    assert lease is not None
                    assert await leases.release(lease)
            assert recount(await at.records(), range(400)) == CLEAN

    run(scenario())


def test_of_two_mirrors_only_one_works_on_a_stream(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at, at.mirror() as (one, _), at.mirror() as (two, _):
            await at.publish(range(300))
            await at.until(300)
            owned = [
                sum(m.registry.get_sample_value("headrace_mirror_owned_streams", {"stream": s}) or 0 for s in Stream)
                for m in (one, two)
            ]
            assert sum(owned) == len(Stream)
            assert recount(await at.records(), range(300)) == CLEAN

    run(scenario())


def test_a_mirror_that_lost_its_lease_stops_and_doubles_nothing(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at, at.mirror() as (metrics, _):
            await at.publish(range(200))
            await at.until(200)
            await eventually(lambda: _position_is_last(at))
            # Somebody else took over, as after a long pause of this process.
            lease = f"{at.settings.prefix}:mirror:orders:lease"
            await at.redis.call("SET", lease, "thief|1000")
            await at.publish(range(200, 400))

            async def noticed() -> bool:
                return value_of(metrics, "mirror_owned_streams") == 0

            await eventually(noticed)
            assert not await _position_is_last(at)
            assert value_of(metrics, "stream_lag_seconds") is None, "the thief tells it now"
            await at.redis.call("DEL", lease)
            await at.until(400)
            assert recount(await at.records(), range(400)) == CLEAN

    run(scenario())


def value_of(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"headrace_{name}", {"stream": "orders"})


def test_what_breaks_its_contract_is_sent_with_the_reason_and_stops_nobody(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at:
            await at.publish(range(3))
            await at.redis.publish([NewEntry(at.key, "bad-1", {"event_id": "bad", "payload": "{broken"})])
            await at.redis.publish([NewEntry(at.key, "bad-2", {"nothing": b"\xff\xfe"})])
            await at.redis.call("XADD", at.key, "*", b"\xff\x00", b"\x00")
            await at.publish(range(3, 6))
            async with at.mirror():
                records = await at.until(9)
            invalid = [record for record in records if INVALID in dict(record.headers)]
            assert sorted(record.value or b"" for record in invalid) == [
                b'{"\\\\xff\\u0000": "\\u0000"}',
                b'{"nothing": "\\\\xff\\\\xfe"}',
                b"{broken",
            ]
            assert recount([record for record in records if record not in invalid], range(6)) == CLEAN

    run(scenario())


def test_the_lag_is_told_each_second_and_is_zero_when_all_is_done(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at, at.mirror():
            await at.publish(range(100))
            await at.until(100)
            latest = kafka_topic(at.settings.prefix, Topic.PUSH_LATEST)

            async def zero_twice() -> bool:
                told = [decode(r.value or b"") for r in await at.records(latest)]
                assert {message.channel for message in told} <= {LAG_CHANNEL}
                last = [bytes(message.data) for message in told[-2:]]
                return len(last) == 2 and all(b'"stream_entries":0,"stream_oldest_s":0.0' in data for data in last)

            await eventually(zero_twice)

    run(scenario())


def test_consumers_that_are_behind_count_as_lag(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at, at.mirror() as (metrics, _):
            await at.publish(range(100))
            records = await at.until(100)
            await _commit(at, {Partition(at.topic, n): 1 for n in range(at.settings.kafka.partitions)})
            behind = sum(max(0, [r.partition for r in records].count(n) - 1) for n in range(4))

            def told() -> float | None:
                return metrics.registry.get_sample_value("headrace_consumer_lag_messages", {"topic": at.topic})

            async def right() -> bool:
                return told() == behind

            async def silent() -> bool:
                return told() is None

            await eventually(right)
            await at.redis.call("SET", f"{at.settings.prefix}:mirror:orders:lease", "thief|1000")
            await eventually(silent)

    run(scenario())


async def _commit(at: Bench, offsets: dict[Partition, int]) -> None:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(
        bootstrap_servers=at.settings.kafka.bootstrap, group_id=at.settings.worker.group, enable_auto_commit=False
    )
    await consumer.start()
    consumer.assign([TopicPartition(*place) for place in offsets])
    await consumer.commit({TopicPartition(*place): offset for place, offset in offsets.items()})
    await consumer.stop()


@embedded_only
def test_a_kafka_that_forgot_everything_gets_what_redis_still_has(tmp_path: Path, prefix: str, redis_url: str):
    async def scenario() -> None:
        port = probes.free_port()
        settings = settings_for(prefix, redis_url, f"127.0.0.1:{port}", embedded=True)
        broker = await tansu.start(tmp_path / "one", port)
        try:
            async with bench(settings) as at, at.mirror():
                await at.publish(range(500))
                await at.until(500)
                await broker.stop()
                await at.publish(range(500, 600))
                broker = await tansu.start(tmp_path / "two", port)
                await at.publish(range(600, 700))
                await at.until(700)
                assert recount(await at.records(), range(700)) == CLEAN
        finally:
            await broker.stop()

    run(scenario())


def test_a_group_that_never_gets_on_is_warned_of_and_cannot_fill_redis(prefix: str, redis_url: str, kafka_url: str):
    async def scenario() -> None:
        settings = settings_for(
            prefix, redis_url, kafka_url, embedded=kafka_is_embedded(), keep_entries=100, stream_bytes=300_000
        )
        async with bench(settings) as at:
            await at.redis.call("XGROUP", "CREATE", at.key, "stuck", "0", "MKSTREAM")
            await at.redis.call("XREADGROUP", "GROUP", "stuck", "c", "COUNT", 1, "STREAMS", at.key, ">")
            await at.publish(range(4_000))
            async with at.mirror() as (metrics, _):
                named = {"stream": "orders", "consumer_group": "stuck"}

                async def cut() -> bool:
                    lost = metrics.registry.get_sample_value("headrace_stream_trimmed_unread_total", named) or 0
                    return lost > 0 and int(await at.redis.call("MEMORY", "USAGE", at.key)) < 320_000

                await eventually(cut, timeout_s=60)
                assert metrics.registry.get_sample_value("headrace_stream_trim_pressure_ratio", named) is not None
                assert (await at.redis.stream_info(at.key)).length > 500
            assert recount(await at.records(), range(4_000)) == CLEAN

    run(scenario())


@embedded_only
def test_a_redis_that_forgot_everything_is_read_from_its_beginning_without_repeats(
    tmp_path: Path, prefix: str, kafka_url: str
):
    async def scenario() -> None:
        port = probes.free_port()
        settings = settings_for(prefix, f"redis://127.0.0.1:{port}/0", kafka_url, embedded=True)
        redis = await valkey.start_embedded(tmp_path / "redis", port)
        try:
            async with bench(settings) as at, at.mirror():
                await at.publish(range(500))
                await at.until(500)
                # All keys go: entries, markers, lease, position. The relay publishes the last rows again.
                await at.redis.call("FLUSHALL")
                await at.publish(range(450, 600))
                await at.until(600)
                await asyncio.sleep(1.5)
                records = await at.records()
                assert sorted(numbers_of(records)) == list(range(600))
        finally:
            await redis.stop()

    run(scenario())


def test_a_noisy_tenant_delays_only_itself_and_keeps_its_order(prefix: str, redis_url: str, kafka_url: str):
    """It is 1,000 entries over its quota; another mirror goes on with what waits."""

    async def scenario() -> None:
        settings = settings_for(
            prefix,
            redis_url,
            kafka_url,
            embedded=kafka_is_embedded(),
            tenant_quotas={"noisy": 20.0},
            tenant_burst_s=1.0,
        )
        async with bench(settings) as at:
            await at.publish(range(1_100), "noisy")
            async with at.mirror() as (metrics, _):
                await at.publish(range(1_100, 1_200), "quiet")
                await eventually(lambda: _all_there(at, range(1_100, 1_200)))
                assert len(await at.records()) < 900
                assert _parked(metrics) > 0
            quick = settings.model_copy(update={"mirror": settings.mirror.model_copy(update={"tenant_quotas": {}})})
            async with bench(quick) as at_once, at_once.mirror() as (metrics, _):
                await at.publish(range(1_200, 1_300), "noisy")
                await at.until(1_300)
                assert recount(await at.records(), range(1_300)) == CLEAN
                assert _parked(metrics) == 0
            left = await at.redis.call("KEYS", f"{prefix}:mirror:orders:parked*")
            assert left == []

    run(scenario())


def _parked(metrics: Metrics) -> float:
    return value_of(metrics, "mirror_parked_entries") or 0.0


async def _all_there(at: Bench, numbers: range) -> bool:
    return set(numbers) <= set(numbers_of(await at.records()))


@embedded_only
def test_what_a_redis_of_an_hour_ago_gets_again_is_known_however_much_it_is(
    tmp_path: Path, prefix: str, kafka_url: str
):
    """Far more than a tail was mirrored since its snapshot, and its relays publish that again under new ids."""

    async def scenario() -> None:
        port = probes.free_port()
        settings = settings_for(prefix, f"redis://127.0.0.1:{port}/0", kafka_url, embedded=True)
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 1})})
        redis = await valkey.start_embedded(tmp_path / "redis", port)
        try:
            async with bench(settings) as at, at.mirror():
                await at.publish(range(300))
                await at.until(300)
                await eventually(lambda: _position_is_last(at))
                await at.redis.call("SAVE")
                await at.publish(range(300, 6300))
                await at.until(6300)
                os.kill(redis.pid, signal.SIGKILL)
                await redis.stop()
                redis = await valkey.start_embedded(tmp_path / "redis", port)
                await at.publish(range(300, 6000))
            async with bench(settings) as at, at.mirror():
                await at.publish(range(6000, 6500))
                await at.until(6500)
                await asyncio.sleep(1.0)
                assert recount(await at.records(), range(6500)) == CLEAN
        finally:
            await redis.stop()

    run(scenario())


async def _position_is_last(at: Bench) -> bool:
    position = await Leases(at.redis, at.settings.prefix).read_position(at.key)
    return position.get("position") == (await at.redis.stream_info(at.key)).last_id


@embedded_only
def test_a_kafka_that_stands_still_costs_nothing_but_time(tmp_path: Path, prefix: str, redis_url: str):
    async def scenario() -> None:
        port = probes.free_port()
        settings = settings_for(prefix, redis_url, f"127.0.0.1:{port}", embedded=True)
        broker = await tansu.start(tmp_path / "one", port)
        try:
            async with bench(settings) as at, at.mirror() as (metrics, _):
                await at.publish(range(200))
                await at.until(200)
                os.kill(broker.pid, signal.SIGSTOP)
                await at.publish(range(200, 1200))

                async def behind() -> bool:
                    # It is told though no session comes about; what was sent when Kafka fell asleep counts as well.
                    waiting, oldest_s = value_of(metrics, "stream_lag_entries"), value_of(metrics, "stream_lag_seconds")
                    return (waiting or 0) >= 1_000 and (oldest_s or 0) > settings.kafka.send_timeout_s

                await eventually(behind)
                os.kill(broker.pid, signal.SIGCONT)
                await at.until(1200)
                await asyncio.sleep(1.0)
                assert recount(await at.records(), range(1200)) == CLEAN
        finally:
            await broker.stop()

    run(scenario())


def test_an_epoch_that_kafka_has_seen_is_not_used_again(mirror_settings: Settings):
    """Redis lost its count of epochs; records of the new owner must not look older than those before."""

    async def scenario() -> None:
        async with bench(mirror_settings) as at:
            for turn in range(3):
                async with at.mirror():
                    await at.publish(range(10 * turn, 10 * turn + 10))
                    await at.until(10 * turn + 10)
            await at.redis.call("DEL", f"{at.settings.prefix}:mirror:orders:epoch")
            async with at.mirror():
                await at.publish(range(30, 40))
                records = await at.until(40)
            epochs = {
                number: int(dict(r.headers)["epoch"]) for number, r in zip(numbers_of(records), records, strict=True)
            }
            assert epochs[35] > epochs[25]

    run(scenario())


def test_topics_that_nobody_made_are_made(mirror_settings: Settings):
    async def scenario() -> None:
        async with bench(mirror_settings) as at:
            async with at.mirror():
                await at.publish(range(1))
                await at.until(1)
            async with connected(at.settings) as cluster:
                found = await cluster.topics()
            assert {kafka_topic(at.settings.prefix, topic) for topic in Topic} <= set(found)

    run(scenario())
