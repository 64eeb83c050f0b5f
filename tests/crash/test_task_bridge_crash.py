"""A worker that starts Celery tasks, killed at random: each event's task runs, in order; failures are dead letters."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import asyncpg
import pytest

from contracts.names import Topic, kafka_topic
from headrace.servers.probes import free_port
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Outgoing
from streams.kafka_producer import Producer
from tests.support.aio import run
from tests.support.celery_shop import CeleryShop
from tests.support.processes import WORKER, Process, process, until_ready

TENANT = "11111111-1111-4111-8111-111111111111"
ORDERS = 20
STATUSES = ("created", "confirmed", "failed")
# See shop.told.
FAILING = [number for number in range(ORDERS) if number % 10 == 3]
pytestmark = pytest.mark.timeout(240)


def order_id(number: int) -> str:
    return f"33333333-3333-4333-8333-{number:012d}"


def settings_for(settings: Settings) -> Settings:
    everything = settings.model_dump(exclude_unset=True)
    return Settings.model_validate(
        everything
        | {
            "worker": everything["worker"] | {"port": free_port()},
            "tasks": {
                "broker_url": settings.redis.url,
                "result_url": settings.redis.url,
                "queue": settings.prefix,
                "routes": {"order_status": "shop.told"},
                "retries": {"base_s": 0.2, "cap_s": 1.0, "tries": 20},
            },
        }
    )


async def produce(settings: Settings, status: str) -> None:
    """One event of each order."""
    topic, now_ms = kafka_topic(settings.prefix, Topic.ORDERS), int(1000 * SystemClock().wall_s())
    records = []
    for number in range(ORDERS):
        event = {
            "event": "order_status",
            "version": "1.0",
            "tenant_id": TENANT,
            "order_id": order_id(number),
            "status": status,
            "ts": "2026-01-01T00:00:00Z",
        }
        headers = [("ce_id", f"{settings.prefix}-{number}-{status}".encode())]
        key = f"{TENANT}\x1f{order_id(number)}".encode()
        records.append(Outgoing(topic, key, json.dumps(event).encode(), headers, now_ms))
    producer = Producer(settings.kafka)
    await producer.start()
    await producer.send_all(records)
    await producer.stop()


async def letters(settings: Settings) -> list[str]:
    connection = await asyncpg.connect(settings.postgres.url)
    found = await connection.fetch("SELECT error_class FROM headrace.dead_letter WHERE source = 'tasks'")
    await connection.close()
    return [row["error_class"] for row in found]


async def killed_amid(settings: Settings, worker: Process, shop: CeleryShop) -> None:
    """Events of each status in turn; while the first ones are on their way the worker is killed."""
    rng = random.Random(SystemClock().wall_s())
    for round_, status in enumerate(STATUSES):
        await produce(settings, status)
        if round_ == len(STATUSES) - 1:
            return
        wanted = round_ * ORDERS + rng.randrange(1, ORDERS)
        async with asyncio.timeout(60):
            while len(set(shop.notes())) < wanted:  # noqa: ASYNC110  others work
                await asyncio.sleep(0.01)
        worker.kill()
        worker.start()
        await asyncio.to_thread(until_ready, f"http://127.0.0.1:{settings.worker.port}/readyz")


def bridged(settings: Settings, folder: Path) -> tuple[list[str], list[str]]:
    """Start both workers, kill ours, and wait until each event has run or is a letter; what ran, and the letters."""
    settings.worker.data_dir.mkdir(parents=True)
    shop = CeleryShop(settings.redis.url, settings.prefix)
    chosen = settings_for(settings)
    events, dead = ORDERS * len(STATUSES), len(FAILING) * len(STATUSES)

    async def main() -> None:
        cluster = Cluster(chosen.kafka)
        await cluster.start()
        await topics.ensure(cluster, chosen)
        await cluster.stop()
        with process(WORKER, chosen, folder / "worker.log") as worker:
            await asyncio.to_thread(until_ready, f"http://127.0.0.1:{chosen.worker.port}/readyz")
            await killed_amid(chosen, worker, shop)
            async with asyncio.timeout(90):
                while len(set(shop.notes())) < events or len(await letters(chosen)) < dead:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            assert await asyncio.to_thread(worker.stop) == 0

    with shop.worker("prefork", folder / "celery.log"):
        run(main(), timeout_s=200)
        return shop.notes(), run(letters(chosen))


def test_killed_at_random_it_runs_each_events_task_in_order_and_those_that_fail_are_dead_letters(
    settings: Settings, tmp_path: Path
):
    notes, buried = bridged(settings, tmp_path)
    assert buried == ["ValueError"] * len(FAILING) * len(STATUSES)
    for number in range(ORDERS):
        ran = [note.split()[2] for note in notes if note.split()[1] == order_id(number)]
        # A repeat after a kill comes before what follows it.
        assert list(dict.fromkeys(ran)) == list(STATUSES)
        assert ran == sorted(ran, key=STATUSES.index)
