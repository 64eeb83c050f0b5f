"""A worker that tells a failing shop of orders, killed at random: each order told, in order, dead letters included."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from contracts.names import Topic, kafka_topic
from headrace.servers.probes import free_port
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams import letter_moves, topics
from streams.kafka_log import Cluster, Outgoing
from streams.kafka_producer import Producer
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from tests.support import failing_shop as shop_does
from tests.support.aio import run
from tests.support.control import running, with_control
from tests.support.failing_shop import Deed, FailingShop, Told, failing_shop
from tests.support.processes import WORKER, Process, process, until_ready

TENANTS = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"]
ORDERS = 60
STATUSES = ("created", "confirmed", "failed")
# Orders that the shop will never take; and those that it fails now and then, each way.
REFUSED = "refused"
FAILURES: list[Deed] = [
    shop_does.close,
    shop_does.reset,
    shop_does.half_body,
    shop_does.half_head,
    shop_does.garbage,
    shop_does.hang,
    shop_does.drip,
    shop_does.status(500),
    shop_does.status(429, Retry_After="0"),
    shop_does.status(401),
]
pytestmark = pytest.mark.timeout(240)


def key_of(order: int, status: str) -> str:
    return f"ob-{order}-{status}"


def settings_for(settings: Settings, url: str) -> Settings:
    """A worker that tells this shop; its retries come within a second or two."""
    everything = settings.model_dump(exclude_unset=True)
    worker = everything["worker"] | {"port": free_port()}
    calls = {"try_timeout_s": 0.4, "deadline_s": 3, "base_s": 0.01, "tries": 2}
    return Settings.model_validate(
        everything
        | {
            "worker": worker,
            "adapter": {"url": url, "retries": {"base_s": 0.1, "cap_s": 0.5, "tries": 100, "retry_per_s": 1000}},
            "dependencies": {"adapter": {"calls": calls, "breaker": {"slow_s": 0.3, "open_s": 0.5, "open_max_s": 1}}},
        }
    )


def planned() -> list[tuple[int, str]]:
    """All events: each order's in their order, among those of others."""
    numbers = [number for number in range(ORDERS) for _ in STATUSES]
    random.Random(7).shuffle(numbers)
    left = {number: iter(STATUSES) for number in range(ORDERS)}
    return [(number, next(left[number])) for number in numbers]


async def produce(settings: Settings, events: Sequence[tuple[int, str]], pause_s: float = 0.02) -> None:
    """These events, one by one."""
    producer = Producer(settings.kafka)
    await producer.start()
    try:
        for number, status in events:
            await producer.send_all([record(settings, number, status)])
            await asyncio.sleep(pause_s)
    finally:
        await producer.stop()


def record(settings: Settings, number: int, status: str) -> Outgoing:
    tenant = TENANTS[number % 2]
    order_id = f"33333333-3333-4333-8333-{number:012d}"
    event = {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": tenant,
        "order_id": order_id,
        "status": status,
        "ts": "2026-01-01T00:00:00Z",
        "meta": {"reason": REFUSED if number % 20 == 3 else "because"},
    }
    topic = kafka_topic(settings.prefix, Topic.ORDERS)
    headers = [("ce_id", key_of(number, status).encode()), ("ce_type", b"order_status")]
    now_ms = int(1000 * SystemClock().wall_s())
    return Outgoing(topic, f"{tenant}\x1f{order_id}".encode(), json.dumps(event).encode(), headers, now_ms)


async def fail_now_and_then(told: Told, writer: asyncio.StreamWriter) -> None:
    """A fifth of all requests fails, each time in another way; some orders are refused for good."""
    if REFUSED.encode() in told.body:
        await shop_does.status(422)(told, writer)
        return
    deed = random.choice(FAILURES) if random.random() < 0.2 else shop_does.status(200, after_s=0.005)
    await deed(told, writer)


async def letters(settings: Settings) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(settings.postgres.url)
    try:
        found: list[asyncpg.Record] = await connection.fetch(
            "SELECT error_class, headers, state FROM headrace.dead_letter WHERE source = 'adapter'"
        )
        return found
    finally:
        await connection.close()


async def until_told(shop: FailingShop, settings: Settings, wanted: int) -> None:
    async with asyncio.timeout(60):
        while len(shop.taken) + len(await letters(settings)) < wanted:  # noqa: ASYNC110  others work
            await asyncio.sleep(0.2)


def in_order(shop: FailingShop) -> bool:
    """Whether the shop took each order's events in the order in which they were made."""
    by_order: dict[str, list[str]] = defaultdict(list)
    for key in shop.taken:
        _, order, status = key.split("-")
        by_order[order].append(status)
    return all(told == [status for status in STATUSES if status in told] for told in by_order.values())


def test_killed_at_random_and_failed_in_every_way_it_tells_each_order_in_order(settings: Settings, tmp_path: Path):
    settings.worker.data_dir.mkdir(parents=True)

    async def main() -> None:
        async with failing_shop() as shop:
            shop.always = fail_now_and_then
            chosen = settings_for(settings, shop.url)
            await prepare(chosen)
            with process(WORKER, chosen, tmp_path / "worker.log") as worker:
                await ready(chosen)
                await kill_and_check(shop, chosen, worker)
                await give_back(shop, chosen, worker)
                assert await asyncio.to_thread(worker.stop) == 0

    run(main(), timeout_s=220)


async def kill_and_check(shop: FailingShop, settings: Settings, worker: Process) -> None:
    rng, events = random.Random(SystemClock().wall_s()), planned()
    half = len(events) // 2
    producing = asyncio.create_task(produce(settings, events[:half]))
    await until_told(shop, settings, rng.randrange(1, half - 20))
    worker.kill()
    worker.start()
    await producing
    await ready(settings)
    await shop.stop()  # an outage: nobody listens, and the worker is killed amid it
    await produce(settings, events[half:])
    await asyncio.sleep(rng.uniform(0.0, 1.0))
    worker.kill()
    worker.start()
    await ready(settings)
    await asyncio.sleep(0.5)
    await shop.start()
    await until_told(shop, settings, ORDERS * len(STATUSES))
    buried = await letters(settings)
    refused = {key_of(number, status) for number in range(3, ORDERS, 20) for status in STATUSES}
    assert {row["error_class"] for row in buried} == {"EventRefused"}
    assert len(buried) == len(refused)
    assert set(shop.taken) == {key_of(n, status) for n in range(ORDERS) for status in STATUSES} - refused
    assert in_order(shop)
    assert max(shop.repeats.values()) > 1, "nothing failed: the test proves nothing"


async def give_back(shop: FailingShop, settings: Settings, worker: Process) -> None:
    """The shop takes everything now: letters are requeued, and the worker is killed while they come back."""
    shop.always = shop_does.status(200, after_s=0.1)
    connection = await asyncpg.connect(settings.postgres.url)
    try:
        order = Order("ann", "the shop takes them now", 1000)
        assert await letter_moves.requeue(connection, LetterFilter(source="adapter"), order, rate_per_s=1000)
        async with running(with_control(settings)), asyncio.timeout(90):
            await asyncio.sleep(0.5)
            worker.kill()
            worker.start()
            await ready(settings)
            unsettled = "SELECT count(*) FROM headrace.dead_letter WHERE state <> 'recovered'"
            while await connection.fetchval(unsettled):  # noqa: ASYNC110  others work
                await asyncio.sleep(0.2)
    finally:
        await connection.close()
    assert set(shop.taken) == {key_of(n, status) for n in range(ORDERS) for status in STATUSES}
    assert in_order(shop)


async def ready(settings: Settings) -> None:
    await asyncio.to_thread(until_ready, f"http://127.0.0.1:{settings.worker.port}/readyz")


async def prepare(settings: Settings) -> None:
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()
