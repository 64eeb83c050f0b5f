"""Dead letters of every agent come back to a real worker, which is killed in between: each counts exactly once.

What failed was dated ahead of its record, or could not be read by the mirror: both are sound when they come back.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contracts.names import Consumer, Topic, kafka_topic, retry_topic
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import letter_moves, postgres
from streams.growth import GrowthLog
from streams.kafka_outlet import Outlet
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from streams.mirror_record import INVALID
from streams.records import Outgoing, Partition
from streams.requeue_metrics import RequeueMetrics
from streams.requeuer import Requeuer
from tables.catalogue import catalogue
from tables.row_codec import RowCodec
from tables.rows import newest
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_fleet import Worker, engine_settings, fleet
from tests.support.engine_load import make_topics

pytestmark = pytest.mark.timeout(240)

# Of each agent; orders among them.
LETTERS = 30
CONSUMERS = ("orders", "tool_calls", "audio_sessions", "audio_tenants", "retrieval", "experiments")
TENANT = "11111111-1111-4111-8111-111111111111"
LONG_AGO_MS = 600_000
MEASURED = {"n": 50, "lost": 1, "late": 0, "concealed": 1, "jitter_ms": 4.0, "speech_dbfs": -20.0, "latency_ms": [8.0]}


def events(number: int, ts: str) -> dict[Topic, dict[str, Any]]:
    """One event for each topic."""
    order = {"order_id": f"22222222-2222-4222-8222-{number:012d}", "status": "created"}
    search = {"index": "docs", "results": 3, "scores": [0.9, 0.8, 0.7], "latency_ms": 12.0}
    outcome = {"experiment": "x", "unit": f"u{number}", "metric": "spend", "kind": "mean", "value": 1.0}
    found: dict[Topic, dict[str, Any]] = {
        Topic.ORDERS: {"event": "order_status"} | order,
        Topic.TOOLS: {"event": "tool_call", "tool": "search", "args": {}, "latency_ms": 100},
        Topic.VOICE: {"event": "audio_quality_report", "session_id": "s1", "seq": number} | MEASURED,
        Topic.RAG: {"event": "rag_retrieval"} | search,
        Topic.EXPERIMENTS: {"event": "ab_test_outcome"} | outcome,
    }
    common: dict[str, Any] = {"version": "1.0", "tenant_id": TENANT, "ts": ts}
    return {topic: common | event for topic, event in found.items()}


async def send(settings: Settings) -> None:
    """Records that each agent buries: dated ahead of their records; orders with the mirror's word."""
    now = datetime.now(UTC)
    stamp_ms = int(1000 * now.timestamp()) - LONG_AGO_MS
    records = []
    for number in range(LETTERS):
        for topic, event in events(number, now.isoformat()).items():
            headers = [("ce_id", f"e-{topic}-{number}".encode()), ("tenant", TENANT.encode())]
            if topic is Topic.ORDERS:
                headers.append((INVALID, b"MissingField: for this test"))
            name, value = kafka_topic(settings.prefix, topic), json.dumps(event).encode()
            records.append(Outgoing(name, f"k{number}".encode(), value, headers, stamp_ms))
    outlet = Outlet(settings.kafka, SystemClock())
    try:
        await outlet.send_all(records)
    finally:
        await outlet.stop()


async def states(settings: Settings) -> Counter[tuple[str, str]]:
    """Letters by source and state."""
    connection = await postgres.connect(settings.postgres, name="test")
    try:
        rows = await connection.fetch("SELECT source, state, count(*) AS n FROM headrace.dead_letter GROUP BY 1, 2")
    finally:
        await postgres.close(connection)
    return Counter({(row["source"], row["state"]): row["n"] for row in rows})


async def until(settings: Settings, state: str, count: int) -> None:
    """Wait until so many letters are in the state."""
    found = await states(settings)
    with suppress(TimeoutError):
        async with asyncio.timeout(120):
            while sum(n for (_source, each), n in found.items() if each == state) < count:
                await asyncio.sleep(0.05)
                found = await states(settings)
            return
    pytest.fail(f"{count} letters should be {state}: {found}")


async def requeue_all(settings: Settings) -> None:
    connection = await postgres.connect(settings.postgres, name="test")
    try:
        order = Order("ann", "the clocks are right again", 10_000)
        assert await letter_moves.requeue(connection, LetterFilter(), order, rate_per_s=100)
    finally:
        await postgres.close(connection)


async def read(settings: Settings, topic: str) -> list[Any]:
    log = GrowthLog(settings.kafka)
    await log.start()
    try:
        places = [Partition(topic, number) for number in range(settings.kafka.partitions)]
        spans = await log.spans(places)
        found: list[Any] = []
        for place, span in spans.items():
            async for chunk in log.read(place, span.begin, span.end):
                found += chunk
        return found
    finally:
        await log.stop()


async def counted(settings: Settings) -> dict[str, int]:
    """How many events the durable rows of each table hold."""
    log = GrowthLog(settings.kafka)
    await log.start()
    found: Counter[str] = Counter()
    try:
        for kind in [each for each in catalogue(settings).values() if each.size_ms]:
            codec: RowCodec[Any] = RowCodec(kind)
            changelog = f"{settings.worker.group}-{kind.name}-changelog"
            for number in range(settings.kafka.partitions):
                for raw_key, raw in (await log.rows(Partition(changelog, number), newest)).items():
                    if codec.decode_key(raw_key) is not None:
                        summary = kind.fold.summarise(codec.decode(raw).state)
                        count = summary[kind.columns[0].name]
                        assert isinstance(count, int)
                        found[kind.name] += count
    finally:
        await log.stop()
    return found


async def units(settings: Settings) -> int:
    """Outcomes that units know."""
    from tables.ab_units import KIND

    log = GrowthLog(settings.kafka)
    await log.start()
    codec, total = RowCodec(KIND), 0
    try:
        for number in range(settings.kafka.partitions):
            changelog = Partition(f"{settings.worker.group}-ab_results-changelog", number)
            for raw_key, raw in (await log.rows(changelog, newest)).items():
                if codec.decode_key(raw_key) is not None:
                    total += sum(len(kept) for e in codec.decode(raw).state.values() for kept in e.outcomes.values())
    finally:
        await log.stop()
    return total


async def pushed_orders(settings: Settings) -> Counter[str]:
    """Order messages by id."""
    found = await read(settings, kafka_topic(settings.prefix, Topic.PUSH))
    ids = [dict(record.headers) for record in found]
    return Counter(each["pid"].decode() for each in ids if each["ch"].startswith(b"orders:"))


async def sent_again(settings: Settings) -> None:
    """A sender that was taken for dead wakes up: all that was sent over all retry topics comes once more."""
    found = [record for each in Consumer for record in await read(settings, retry_topic(settings.prefix, each))]
    again = [Outgoing(r.topic, r.key, r.value, r.headers, r.timestamp, partition=r.partition) for r in found]
    assert len(again) >= len(CONSUMERS) * LETTERS
    outlet = Outlet(settings.kafka, SystemClock())
    try:
        await outlet.send_all(again)
    finally:
        await outlet.stop()


async def taken_in(settings: Settings) -> None:
    """Wait until all that is on the retry topics was acknowledged."""
    async with asyncio.timeout(60), engine_truth.connected(settings) as cluster:
        for name in (retry_topic(settings.prefix, Consumer(each)) for each in CONSUMERS):
            while await engine_truth.behind(cluster, settings, name):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)


async def killed_while_letters_come_back(settings: Settings, worker: Worker) -> None:
    requeuer, stop = Requeuer(settings, SystemClock(), RequeueMetrics(Metrics())), asyncio.Event()
    sending = asyncio.create_task(requeuer.run(stop))
    try:
        await requeue_all(settings)
        for recovered in (20, 90):
            await until(settings, "recovered", recovered)
            worker.kill()
            worker.start()
        await until(settings, "recovered", len(CONSUMERS) * LETTERS)
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await sending


def test_letters_of_every_agent_come_back_once_although_the_worker_is_killed_and_the_sender_repeats_itself(
    settings: Settings, tmp_path: Path
):
    settings = engine_settings(settings)
    total = len(CONSUMERS) * LETTERS

    async def scenario() -> None:
        await make_topics(settings)
        async with fleet(settings, tmp_path, 1) as (worker,):
            worker.start()
            await worker.ready()
            await send(settings)
            await until(settings, "dead", total)
            assert await states(settings) == {(source, "dead"): LETTERS for source in CONSUMERS}
            await killed_while_letters_come_back(settings, worker)
            await worker.ready()
            await sent_again(settings)
            await taken_in(settings)
            assert await worker.stop() == 0
        assert await states(settings) == {(source, "recovered"): LETTERS for source in CONSUMERS}
        found = await counted(settings)
        assert found["tool_latency"] == found["retrieval_quality"] == LETTERS
        assert found["audio_quality"] == found["audio_quality_tenant"] == LETTERS
        assert await units(settings) == LETTERS
        assert set(await pushed_orders(settings)) == {f"e-orders-{number}" for number in range(LETTERS)}

    run(scenario(), timeout_s=230)
