"""A worker that is killed anywhere counts every unit of an experiment once, in the arm that saw it first."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.names import Topic, kafka_topic
from headrace.servers.probes import free_port
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Outgoing, Partition
from streams.kafka_producer import Producer
from tables import ab_results, ab_units
from tables.ab_results import AbState
from tables.row_codec import RowCodec
from tables.rows import WindowKey, newest
from tests.support.ab_recount import LogRecord, differences, recount
from tests.support.aio import run
from tests.support.processes import WORKER, Process, process, until_ready

EVENTS = 12_000
BURST = 1_500
UNITS = 1_500
KILLS = 4
START = datetime(2026, 1, 1, tzinfo=UTC)
METRICS = (("spend", "mean"), ("ctr", "ratio"), ("bought", "binary"), ("wait", "quantile"))
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def worker_settings(settings: Settings) -> Settings:
    worker = settings.worker.model_copy(update={"port": free_port()})
    worker.model_fields_set.add("port")
    return settings.model_copy(update={"worker": worker})


def event_of(rng: random.Random) -> tuple[bytes, bytes]:
    """Key and payload of one event; few ids, so that many come again with the same or with other contents."""
    tenant, unit = rng.choice(["t1", "t2"]), f"u{rng.randrange(UNITS)}"
    event: dict[str, Any] = {
        "version": "1.0",
        "tenant_id": tenant,
        "experiment": rng.choice(["x", "y"]),
        "unit": unit,
        "ts": (START + timedelta(seconds=rng.randrange(3600))).isoformat(),
    }
    if rng.random() < 0.4:
        event |= {"event": "ab_test_assignment", "arm": rng.choice(["control", "b"]), "epoch": rng.randrange(2)}
    else:
        metric, kind = rng.choice(METRICS)
        value = rng.randrange(2) if kind == "binary" else rng.randrange(1, 10_000) / 128
        event |= {"event": "ab_test_outcome", "metric": metric, "kind": kind, "value": value}
        if kind == "ratio":
            event["denominator"] = rng.randrange(1, 10)
        if rng.random() < 0.5:
            event["event_id"] = f"e{rng.randrange(20)}"
    return f"{tenant}\x1f{unit}".encode(), json.dumps(event).encode()


async def produce(settings: Settings) -> None:
    """Bursts of events, each some MB of rows: a flush takes several changelog batches."""
    rng, topic = random.Random(11), kafka_topic(settings.prefix, Topic.EXPERIMENTS)
    producer = Producer(settings.kafka)
    await producer.start()
    for start in range(0, EVENTS, BURST):
        now_ms = int(time.time() * 1000)
        records = [Outgoing(topic, *event_of(rng), [], now_ms) for _ in range(BURST)]
        # The same envelope twice, and a value that is no event.
        records += [records[0]._replace(headers=[("ce_id", f"c{start}".encode())])] * 2
        records.append(Outgoing(topic, b"t1\x1fu1", b"{broken", [], now_ms))
        await producer.send_all(records)
        await asyncio.sleep(1.0)
    await producer.stop()


async def log_and_rows(settings: Settings) -> tuple[list[LogRecord], dict[WindowKey, AbState], int]:
    """The topic, the table as its changelog has it, and in how many rows units are."""
    kind, fold = ab_results.kind(settings), ab_results.AbFold()
    results, units = RowCodec(kind), RowCodec(ab_units.KIND)
    topic = kafka_topic(settings.prefix, Topic.EXPERIMENTS)
    changelog = f"{settings.worker.group}-{ab_results.NAME}-changelog"
    log: list[LogRecord] = []
    states: dict[WindowKey, AbState] = {}
    unit_count = 0
    cluster = Cluster(settings.kafka)
    await cluster.start()
    for number in range((await cluster.topics()).get(changelog, 0)):
        for record in await cluster.read_tail(Partition(topic, number), 1_000_000):
            ce_id = (dict(record.headers).get("ce_id") or b"").decode()
            if record.value != b"{broken":
                log.append(LogRecord(number, record.offset, record.value or b"", ce_id))
        rows: dict[bytes, bytes] = {}
        for record in await cluster.read_tail(Partition(changelog, number), 1_000_000):
            assert record.key is not None
            assert record.value is not None
            rows[record.key] = newest(rows.get(record.key), record.value)
        unit_count += sum(units.decode_key(key) is not None for key in rows)
        for raw_key, raw in rows.items():
            key = results.decode_key(raw_key)
            if key is not None:
                states[key] = fold.merge(states.get(key, fold.empty()), results.decode(raw).state)
    await cluster.stop()
    return log, states, unit_count


async def killing(worker: Process, settings: Settings) -> None:
    """Kill and start the worker again and again, half the time without what it had on disk."""
    rng = random.Random(3)
    for number in range(KILLS):
        await asyncio.sleep(rng.uniform(1.5, 4.0))
        worker.kill()
        if number % 2:
            shutil.rmtree(settings.worker.data_dir)
            settings.worker.data_dir.mkdir()
        worker.start()


async def prepare(settings: Settings) -> None:
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()


def test_results_equal_a_recount_after_kills(worker_settings: Settings, tmp_path: Path):
    worker_settings.worker.data_dir.mkdir(parents=True)

    async def scenario(worker: Process) -> None:
        await asyncio.gather(produce(worker_settings), killing(worker, worker_settings))
        deadline = time.monotonic() + 90
        while True:
            log, states, unit_count = await log_and_rows(worker_settings)
            wrong = differences(states, recount(log))
            if not wrong and unit_count == len(
                {(json.loads(r.value)["tenant_id"], json.loads(r.value)["unit"]) for r in log}
            ):
                break
            assert time.monotonic() < deadline, f"{len(wrong)} rows differ: {wrong[:5]}"
            await asyncio.sleep(1.0)
        assert len(log) == EVENTS + 2 * EVENTS // BURST

    run(prepare(worker_settings))
    with process(WORKER, worker_settings, tmp_path / "worker.log") as worker:
        until_ready(f"http://127.0.0.1:{worker_settings.worker.port}/readyz")
        run(scenario(worker), timeout_s=200)
        assert worker.stop() == 0
