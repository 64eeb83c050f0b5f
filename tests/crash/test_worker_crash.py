"""A worker that is killed anywhere loses nothing and counts nothing twice: rows, messages and dead letters."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from contracts.names import Topic, kafka_topic
from headrace.servers.probes import free_port
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Outgoing, Partition
from streams.kafka_producer import Producer
from tables import tool_latency as tl
from tables.row_codec import RowCodec
from tables.rows import newest
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_seed import draws
from tests.support.processes import WORKER, Process, process, until_ready

TENANTS = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"]
TOOLS = ["search", "price", "stock"]
CALLS = 3_000
ORDERS = 1_000
KILLS = 3
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def worker_settings(settings: Settings) -> Settings:
    """Short windows, so that many of them close while the worker is killed."""
    worker = settings.worker.model_copy(update={"port": free_port(), "idle_close_s": 1.0})
    worker.model_fields_set.update({"port", "idle_close_s"})
    lengths = settings.tool_latency.model_copy(update={"window_s": 2, "retention_s": 600, "lateness_s": 0.5})
    lengths.model_fields_set.update({"window_s", "retention_s", "lateness_s"})
    return settings.model_copy(update={"worker": worker, "tool_latency": lengths})


def call(rng: random.Random, number: int, at_s: float) -> tuple[bytes, bytes]:
    tenant, tool = rng.choice(TENANTS), rng.choice(TOOLS)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{int(at_s * 1000) % 1000:03d}Z"
    event = {
        "event": "tool_call",
        "version": "1.0",
        "tenant_id": tenant,
        "tool": tool,
        "args": {"n": number},
        "latency_ms": round(rng.lognormvariate(4.5, 0.8), 3),
        "status": "error" if rng.random() < 0.05 else "ok",
        "ts": stamp,
    }
    return f"{tenant}\x1f{tool}".encode(), json.dumps(event).encode()


def order(rng: random.Random, number: int) -> tuple[bytes, bytes]:
    tenant = rng.choice(TENANTS)
    order_id = f"33333333-3333-4333-8333-{number % 50:012d}"
    event = {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": tenant,
        "order_id": order_id,
        "status": "created",
        "ts": "2026-01-01T00:00:00Z",
    }
    return f"{tenant}\x1f{order_id}".encode(), json.dumps(event).encode()


async def produce(settings: Settings) -> None:
    """Calls and orders at a steady pace, some of them broken."""
    rng = random.Random(5)
    producer = Producer(settings.kafka)
    await producer.start()
    tools, orders = (kafka_topic(settings.prefix, topic) for topic in (Topic.TOOLS, Topic.ORDERS))
    for start in range(0, CALLS, 30):
        now_ms = int(time.time() * 1000)
        records = [Outgoing(tools, *call(rng, n, time.time()), [], now_ms) for n in range(start, start + 30)]
        numbers = range(start // 3, start // 3 + 10)
        records += [Outgoing(orders, *order(rng, n), [("ce_id", f"ob-{n}-1".encode())], now_ms) for n in numbers]
        if start % 300 == 0:
            records.append(Outgoing(tools, b"x\x1fy", b"{broken", [], now_ms))
        await producer.send_all(records)
        await asyncio.sleep(0.1)
    await producer.stop()


Found = tuple[Partition, bytes | None, bytes | None, dict[str, bytes]]


async def everything(settings: Settings, name: str) -> list[Found]:
    cluster = Cluster(settings.kafka)
    await cluster.start()
    found = []
    for number in range((await cluster.topics())[name]):
        place = Partition(name, number)
        found += [(place, r.key, r.value, dict(r.headers)) for r in await cluster.read_tail(place, 1_000_000)]
    await cluster.stop()
    return found


def recount(values: list[bytes], window_ms: int) -> dict[tuple[str, str, int], tuple[int, int, int]]:
    rows: dict[tuple[str, str, int], tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for value in values:
        try:
            event = json.loads(value)
        except ValueError:
            continue
        at_ms = round(datetime.fromisoformat(event["ts"]).timestamp() * 1000)
        key = (event["tenant_id"], event["tool"], at_ms // window_ms * window_ms)
        n, errors, total_us = rows[key]
        rows[key] = (n + 1, errors + (event["status"] == "error"), total_us + round(event["latency_ms"] * 1000))
    return dict(rows)


async def check(settings: Settings) -> None:
    tools = [value or b"" for _, _, value, _ in await everything(settings, kafka_topic(settings.prefix, Topic.TOOLS))]
    rows: dict[bytes, bytes] = {}
    for _, key, value, _ in await everything(settings, f"{settings.worker.group}-tool_latency-changelog"):
        assert key is not None
        assert value is not None
        rows[key] = newest(rows.get(key), value)
    codec = RowCodec(tl.kind(settings))
    table = {k: codec.decode(raw) for key, raw in rows.items() if (k := codec.decode_key(key)) is not None}
    counted = {
        (k.tenant_id, k.subject[0], k.start_ms): (r.state.count, r.state.errors, r.state.sum_us)
        for k, r in table.items()
    }
    assert counted == recount(tools, 1000 * settings.tool_latency.window_s)

    pushed = await everything(settings, kafka_topic(settings.prefix, Topic.PUSH))
    ids = Counter((key, headers["pid"].decode()) for _, key, _, headers in pushed)
    assert {i for _, i in ids if i.startswith("ob-")} == {f"ob-{n}-1" for n in range(ORDERS)}
    bodies: dict[tuple[bytes | None, str], set[bytes | None]] = defaultdict(set)
    for _, key, value, headers in pushed:
        bodies[key, headers["pid"].decode()].add(value)
    assert all(len(same) == 1 for same in bodies.values()), "one id, two contents"
    closed = {i for _, i in ids if i.startswith("tlw:")}
    for k, row in table.items():
        assert f"tlw:{k.subject[0]}:{k.start_ms}:{row.revision}" in closed, "a closed window was never pushed"

    connection = await asyncpg.connect(settings.postgres.url)
    buried = await connection.fetchval("SELECT count(*) FROM headrace.dead_letter")
    await connection.close()
    assert buried == sum(not value.startswith(b'{"') for value in tools)


def test_killed_at_random_points_it_counts_and_pushes_everything_once(worker_settings: Settings, tmp_path: Path):
    settings = worker_settings
    settings.worker.data_dir.mkdir(parents=True)

    async def scenario(worker: Process) -> None:
        rng = draws("worker crash")
        producing = asyncio.create_task(produce(settings))
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(1.0, 3.0))
            worker.kill()
            worker.start()
            await asyncio.to_thread(until_ready, f"http://127.0.0.1:{settings.worker.port}/readyz")
        await producing
        await engine_truth.settled(settings, timeout_s=100)
        async with asyncio.timeout(60), engine_truth.connected(settings) as cluster:
            orders = kafka_topic(settings.prefix, Topic.ORDERS)
            while await engine_truth.behind(cluster, settings, orders):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        await check(settings)

    async def prepare() -> None:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await topics.ensure(cluster, settings)
        await cluster.stop()

    run(prepare())
    with process(WORKER, settings, tmp_path / "worker.log") as worker:
        until_ready(f"http://127.0.0.1:{settings.worker.port}/readyz")
        run(scenario(worker), timeout_s=200)
        assert worker.stop() == 0
