"""Reading stretches of a partition on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from aiokafka.protocol.fetch import FetchRequest

from contracts.names import Topic, kafka_topic
from runtime.settings import Settings
from streams.kafka_log import OffsetGone
from streams.kafka_producer import BatchRecord, Producer
from streams.log_range import LogRange, Span
from streams.records import Partition
from tests.support.aio import run
from tests.support.kafka import hide_batch
from tests.support.replaying import prepare
from tests.support.servers import kafka_is_embedded

T0 = 1_700_000_000_000
Log = TypeVar("Log", bound=LogRange)


async def filled(settings: Settings, batches: int, size: int) -> Partition:
    """A partition with batches of `size` records, one a second."""
    place = Partition(kafka_topic(settings.prefix, Topic.TOOLS), 2)
    producer = Producer(settings.kafka)
    await producer.start()
    for number in range(batches):
        offsets = range(number * size, (number + 1) * size)
        await producer.send_batch(*place, [BatchRecord(b"k", b"%d" % n, T0 + 1000 * n) for n in offsets])
    await producer.stop()
    return place


@asynccontextmanager
async def connected(settings: Settings, kind: type[Log]) -> AsyncIterator[Log]:
    log = kind(settings.kafka)
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


@pytest.mark.parametrize(("start", "end"), [(0, 200), (0, 1), (13, 57), (10, 20), (19, 21), (199, 200), (50, 50)])
def test_a_stretch_has_its_records_and_no_others(settings: Settings, start: int, end: int):
    prepare(settings)

    async def scenario() -> None:
        place = await filled(settings, 20, 10)
        async with connected(settings, LogRange) as log:
            found = [record async for chunk in log.read(place, start, end) for record in chunk]
            assert [(r.offset, r.value, r.timestamp) for r in found] == [
                (n, b"%d" % n, T0 + 1000 * n) for n in range(start, end)
            ]

    run(scenario())


def test_nothing_that_is_as_new_as_the_time_asked_for_stands_before_the_offset(settings: Settings):
    prepare(settings)

    async def scenario() -> None:
        place = await filled(settings, 10, 10)
        async with connected(settings, LogRange) as log:
            span = (await log.spans([place]))[place]
            assert span == (0, 100)
            for second in (-5, 0, 1, 49, 50, 51, 99, 100, 500):
                offset = await log.offset_at(place, T0 + 1000 * second, span)
                assert 0 <= offset <= max(0, min(second, 100))
                if not kafka_is_embedded():
                    assert offset == max(0, min(second, 100)), "Apache Kafka's answers hold"
            assert await log.offset_at(place, T0 + 10**9, Span(40, 40)) == 40
            assert await log.timestamp_at(place, 57) == T0 + 57_000

    run(scenario())


def test_a_log_that_ends_before_the_stretch_does_is_not_waited_for(settings: Settings):
    prepare(settings)

    async def scenario() -> None:
        place = await filled(settings, 2, 10)
        async with connected(settings, LogRange) as log:
            with pytest.raises(OffsetGone):
                async for _chunk in log.read(place, 5, 25):
                    pass

    run(scenario())


def test_a_reader_that_stops_half_way_leaves_nothing_running(settings: Settings):
    prepare(settings)

    async def scenario() -> None:
        place = await filled(settings, 20, 10)
        async with connected(settings, LogRange) as log:
            reading = log.read(place, 0, 200)
            async for _chunk in reading:
                break
            await reading.aclose()

    run(scenario())


class _SilentOnce(LogRange):
    """The broker's first answer to a fetch says nothing about any partition, as the embedded one does when busy."""

    silent = False

    async def _send(self, node: object, request: object) -> object:
        answer = await super()._send(node, request)
        if isinstance(request, FetchRequest) and not self.silent:
            self.silent = True
            answer.topics = []
        return answer


def test_an_answer_that_leaves_the_partition_out_is_asked_for_again(settings: Settings):
    prepare(settings)

    async def scenario() -> None:
        place = await filled(settings, 2, 10)
        async with connected(settings, _SilentOnce) as log:
            assert (await log.spans([place]))[place] == (0, 20)
            assert log.silent
            log.silent = False
            assert [record.offset async for chunk in log.read(place, 0, 20) for record in chunk] == list(range(20))
            assert log.silent

    run(scenario())


def test_a_batch_that_is_seen_before_the_one_in_front_of_it_waits_for_that(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    prepare(settings)

    async def scenario() -> None:
        place = await filled(settings, 4, 10)
        looks = hide_batch(monkeypatch, base=20)
        kafka = settings.kafka.model_copy(update={"idempotence": False})
        async with connected(settings.model_copy(update={"kafka": kafka}), LogRange) as log:
            assert [record.offset async for chunk in log.read(place, 0, 40) for record in chunk] == list(range(40))
        assert not looks

    run(scenario())
