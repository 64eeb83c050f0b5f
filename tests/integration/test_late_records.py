"""Records that a mirror's former owner sent too late, in a real log: nobody who reads it counts them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from contracts.names import Topic, kafka_topic
from runtime.settings import Settings
from streams.epochs import FENCE_KEY, fence_headers
from streams.kafka_log import Outgoing, Partition
from streams.kafka_producer import Producer
from streams.log_range import LogRange
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_fleet import engine_settings, fleet
from tests.support.engine_load import Load, make_topics


def of(epoch: int, records: Sequence[Outgoing]) -> list[Outgoing]:
    return [record._replace(headers=[("epoch", b"%d" % epoch)]) for record in records]


def fences(settings: Settings, epoch: int) -> list[Outgoing]:
    topic = kafka_topic(settings.prefix, Topic.TOOLS)
    return [
        Outgoing(topic, FENCE_KEY, None, fence_headers(epoch), 0, number) for number in range(settings.kafka.partitions)
    ]


async def sent(settings: Settings, *batches: Sequence[Outgoing]) -> None:
    producer = Producer(settings.kafka)
    await producer.start()
    for batch in batches:
        await producer.send_all(batch)
    await producer.stop()


def calls(settings: Settings, count: int) -> list[Outgoing]:
    load = Load(settings, rate_per_s=100, seed=11, broken_ratio=0.0)
    return [load._record() for _ in range(count)]


@pytest.mark.timeout(120)
def test_a_worker_counts_no_late_record_wherever_it_begins_to_read(settings: Settings, tmp_path: Path):
    settings = engine_settings(settings)

    async def scenario() -> None:
        await make_topics(settings)
        made = calls(settings, 1_200)
        before, late, after = made[:600], made[600:800], made[600:]
        async with fleet(settings, tmp_path, 1) as (worker,):
            # It commits behind the fence, dies, and begins again in front of what is late.
            await sent(settings, of(10, before), fences(settings, 11))
            worker.start()
            await worker.ready()
            async with engine_truth.connected(settings) as cluster:
                await engine_truth.moves_on(cluster, settings)
            worker.kill()
            await sent(settings, of(10, late), of(11, after), of(10, late))
            worker.start()
            await engine_truth.check(settings, [worker])

    run(scenario(), timeout_s=110)


def test_a_stretch_leaves_out_what_is_late_wherever_it_begins(settings: Settings):
    settings = engine_settings(settings, partitions=1)

    async def scenario() -> None:
        await make_topics(settings)
        made = calls(settings, 60)
        await sent(settings, of(10, made[:20]), fences(settings, 11), of(10, made[20:30]), of(11, made[20:]))
        place = Partition(kafka_topic(settings.prefix, Topic.TOOLS), 0)
        log = LogRange(settings.kafka)
        await log.start()
        begin, end = (await log.spans([place]))[place]
        counted = {*range(20), *range(31, end)}
        for start in (begin, 1, 19, 20, 21, 25, 31, 40, end):
            found = [record.offset async for chunk in log.read_counted(place, start, end) for record in chunk]
            assert found == sorted(offset for offset in counted if offset >= start)
        await log.stop()

    run(scenario())
