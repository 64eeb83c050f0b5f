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
pytestmark = pytest.mark.timeout(240)


def order_id(number: int) -> str:
    return f"33333333-3333-4333-8333-{number:012d}"


def settings_for(settings: Settings, task: str) -> Settings:
    everything = settings.model_dump(exclude_unset=True)
    return Settings.model_validate(
        everything
        | {
            "worker": everything["worker"] | {"port": free_port()},
            "tasks": {
                "broker_url": settings.redis.url,
                "result_url": settings.redis.url,
                "queue": settings.prefix,
                "routes": {"order_status": task},
                "retries": {"base_s": 0.2, "cap_s": 1.0, "tries": 20},
            },
        }
    )


async def produce(settings: Settings) -> None:
    """All events of all orders, each order's in their order."""
    topic, now_ms = kafka_topic(settings.prefix, Topic.ORDERS), int(1000 * SystemClock().wall_s())
    producer = Producer(settings.kafka)
    await producer.start()
    for status in STATUSES:
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
        await producer.send_all(records)
    await producer.stop()


async def letters(settings: Settings) -> list[str]:
    connection = await asyncpg.connect(settings.postgres.url)
    found = await connection.fetch("SELECT error_class FROM headrace.dead_letter WHERE source = 'tasks'")
    await connection.close()
    return [row["error_class"] for row in found]


async def kill_now_and_then(settings: Settings, worker: Process, kills: int) -> None:
    rng = random.Random(SystemClock().wall_s())
    for _ in range(kills):
        await asyncio.sleep(rng.uniform(1.0, 3.0))
        worker.kill()
        worker.start()
        await asyncio.to_thread(until_ready, f"http://127.0.0.1:{settings.worker.port}/readyz")


def bridged(settings: Settings, task: str, folder: Path, *, kills: int) -> tuple[list[str], list[str]]:
    """Start both workers, kill ours, and wait until each event has run or is a letter; what ran, and the letters."""
    settings.worker.data_dir.mkdir(parents=True)
    shop = CeleryShop(settings.redis.url, settings.prefix)
    chosen = settings_for(settings, task)

    async def main() -> None:
        cluster = Cluster(chosen.kafka)
        await cluster.start()
        await topics.ensure(cluster, chosen)
        await cluster.stop()
        with process(WORKER, chosen, folder / "worker.log") as worker:
            await asyncio.to_thread(until_ready, f"http://127.0.0.1:{chosen.worker.port}/readyz")
            await produce(chosen)
            await kill_now_and_then(chosen, worker, kills)
            async with asyncio.timeout(90):
                while max(len(set(shop.notes())), len(await letters(chosen))) < ORDERS * len(STATUSES):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            assert await asyncio.to_thread(worker.stop) == 0

    with shop.worker("prefork", folder / "celery.log"):
        run(main(), timeout_s=200)
        return shop.notes(), run(letters(chosen))


def test_killed_at_random_it_runs_each_events_task_in_the_order_of_each_order(settings: Settings, tmp_path: Path):
    notes, buried = bridged(settings, "shop.told", tmp_path, kills=2)
    assert not buried
    for number in range(ORDERS):
        ran = [note.split()[2] for note in notes if note.split()[1] == order_id(number)]
        # A repeat after a kill comes before what follows it.
        assert list(dict.fromkeys(ran)) == list(STATUSES)
        assert ran == sorted(ran, key=STATUSES.index)


def test_a_task_that_fails_is_a_dead_letter_like_any_other(settings: Settings, tmp_path: Path):
    notes, buried = bridged(settings, "shop.fails", tmp_path, kills=0)
    assert len(set(notes)) == ORDERS
    assert buried == ["ValueError"] * ORDERS * len(STATUSES)
