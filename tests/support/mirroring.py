"""Entries for the mirror, a mirror process in this loop, and a recount of what became of the entries."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

from contracts.envelope import from_headers
from contracts.names import Stream, kafka_topic, redis_stream, topic_of
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import mirror
from streams.epochs import admitted
from streams.kafka_log import Cluster, Partition, Record
from streams.redis_log import NewEntry, RedisLog

TENANT = "t1"
EVERYTHING = 1_000_000


def settings_for(prefix: str, redis_url: str, kafka_url: str, *, embedded: bool, **mirror_settings: object) -> Settings:
    """Settings of a mirror; a short lease, so that a test sees it run out."""
    return Settings.model_validate(
        {
            "prefix": prefix,
            "redis": {"url": redis_url},
            "kafka": {"bootstrap": kafka_url, "idempotence": not embedded, "send_timeout_s": 3.0},
            "mirror": {"lease_s": 2.0, **mirror_settings},
            "worker": {"group": f"{prefix}-worker"},
        }
    )


def entry(prefix: str, number: int, orders: int = 20, tenant: str = TENANT) -> NewEntry:
    """The entry of row `number`, about order `number % orders` of a tenant."""
    order_id = f"o{number % orders}"
    payload = {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": tenant,
        "order_id": order_id,
        "status": "created",
        "ts": "2026-01-02T03:04:05Z",
        "seq": number,
    }
    dedupe_id = f"ob-{number}-1"
    fields = {
        "event_id": str(number),
        "event_type": "order_status",
        "aggregate_id": order_id,
        "aggregate_type": "order",
        "source_service": "test",
        "version": "1.0",
        "created_at": "2026-01-02T03:04:05+00:00",
        "payload": json.dumps(payload),
        "dedupe_id": dedupe_id,
        "tenant_id": tenant,
        "traceparent": "",
    }
    return NewEntry(redis_stream(prefix, Stream.ORDERS), dedupe_id, fields)


def entries(prefix: str, numbers: range, tenant: str = TENANT) -> Iterator[list[NewEntry]]:
    """Entries in chunks of a hundred."""
    for first in range(numbers.start, numbers.stop, 100):
        yield [entry(prefix, number, tenant=tenant) for number in range(first, min(first + 100, numbers.stop))]


@dataclass(frozen=True)
class Recount:
    """Row numbers that are missing, that stand more than once, or behind a later one of their order."""

    missing: list[int]
    doubled: list[int]
    out_of_order: list[int]


CLEAN = Recount([], [], [])


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Cluster]:
    """A connection to Kafka, closed whatever happens."""
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


class Bench:
    """A mirror's surroundings: Redis, Kafka, and mirrors that run as tasks."""

    def __init__(self, settings: Settings, redis: RedisLog) -> None:
        self.settings = settings
        self.redis = redis
        self.key = redis_stream(settings.prefix, Stream.ORDERS)
        self.topic = kafka_topic(settings.prefix, topic_of(Stream.ORDERS))

    async def publish(self, numbers: range, tenant: str = TENANT) -> None:
        for chunk in entries(self.settings.prefix, numbers, tenant):
            await self.redis.publish(chunk)

    @asynccontextmanager
    async def mirror(self) -> AsyncIterator[tuple[Metrics, Health]]:
        """A mirror that runs while the body does, and then stops in order."""
        metrics, health, stop = Metrics(), Health(("mirror",)), asyncio.Event()
        task = asyncio.create_task(mirror.run(self.settings, stop, metrics, health, SystemClock()))
        try:
            yield metrics, health
        finally:
            stop.set()
            await task

    async def records(self, topic: str | None = None, *, raw: bool = False) -> list[Record]:
        """What counts in a topic, by partition; `raw`: fences and what came too late as well."""
        name = topic or self.topic
        found = []
        async with connected(self.settings) as cluster:
            for number in range((await cluster.topics([name])).get(name, 0)):
                records = await cluster.read_tail(Partition(name, number), EVERYTHING)
                found += records if raw else admitted(records)
        return found

    async def until(self, count: int, timeout_s: float = 60.0) -> list[Record]:
        """What counts in the orders topic, once it is at least `count` records."""

        async def enough() -> bool:
            partitions = (await cluster.topics([self.topic])).get(self.topic, 0)
            ends = await cluster.true_end_offsets(Partition(self.topic, number) for number in range(partitions))
            return sum(ends.values()) >= count

        found: list[Record] = []
        async with connected(self.settings) as cluster, asyncio.timeout(timeout_s):
            while len(found) < count:
                await eventually(enough, timeout_s)
                found = await self.records()
                await asyncio.sleep(0 if len(found) >= count else 0.2)
        return found


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Wait until a condition holds that servers bring about."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - servers set no event of ours
            await asyncio.sleep(0.05)


@asynccontextmanager
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    redis = RedisLog(settings.redis, settings.prefix, client_name="test")
    try:
        yield Bench(settings, redis)
    finally:
        await redis.close()


def numbers_of(records: list[Record]) -> list[int]:
    """The row numbers of records, in the order of the log."""
    return [int(from_headers(record.headers).dedupe_id.split("-")[1]) for record in records]


def recount(records: list[Record], expected: range) -> Recount:
    """Compare what stands in Kafka with the rows that were published."""
    seen = Counter(numbers_of(records))
    by_order: dict[bytes, list[int]] = defaultdict(list)
    for record, number in zip(records, numbers_of(records), strict=True):
        by_order[record.key or b""].append(number)
    return Recount(
        missing=[number for number in expected if number not in seen],
        doubled=[number for number, count in seen.items() if count > 1],
        out_of_order=[b for each in by_order.values() for a, b in pairwise(each) if b < a],
    )
