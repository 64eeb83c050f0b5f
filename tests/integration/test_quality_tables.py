"""Reports and searches on Kafka become rows of the quality tables; two agents share the voice topic."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.names import Topic, kafka_topic
from headrace.servers.probes import free_port
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Outgoing, Partition, partition_for
from streams.kafka_producer import Producer
from tables import audio_quality, retrieval_quality
from tables.fold import TableKind
from tables.row_codec import RowCodec
from tables.rows import newest
from tests.support.aio import run
from tests.support.processes import WORKER, process, until_ready

SESSIONS = 40
SECONDS = 3
REPORTS = SESSIONS * (SECONDS + 1)
START = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.timeout(180)


def report(session: int, seq: int) -> dict[str, Any]:
    return {
        "event": "audio_quality_report",
        "version": "1.0",
        "tenant_id": "acme",
        "session_id": f"s{session}",
        "seq": seq,
        "ts": (START + timedelta(seconds=seq)).isoformat(),
        "n": 50,
        "lost": session % 3,
        "late": 0,
        "concealed": 0,
        "jitter_ms": 3.5,
    }


def search(number: int) -> dict[str, Any]:
    return {
        "event": "rag_retrieval",
        "version": "1.0",
        "tenant_id": "acme",
        "index": f"docs{number % 4}",
        "latency_ms": 1.0 + number,
        "ts": START.isoformat(),
        "results": 5,
        "relevance": [0, 0, 1, 1, 0],
    }


async def produce(settings: Settings) -> None:
    """Each report three times, as a producer that hears no answer sends it; then one more second of each session."""
    voice, rag = (kafka_topic(settings.prefix, topic) for topic in (Topic.VOICE, Topic.RAG))
    now_ms = int(time.time() * 1000)
    reports = [report(session, seq) for seq in range(SECONDS) for session in range(SESSIONS)]
    last = [report(session, SECONDS) for session in range(SESSIONS)]
    said, again = (
        [
            Outgoing(voice, f"acme\x1f{event['session_id']}".encode(), msgspec.json.encode(event), [], now_ms)
            for event in events
        ]
        for events in (reports + reports, reports + last)
    )
    searches = [
        Outgoing(rag, f"acme\x1f{event['index']}".encode(), msgspec.json.encode(event), [], now_ms)
        for event in map(search, range(100))
    ]
    producer = Producer(settings.kafka)
    await producer.start()
    await producer.send_all(said + searches)
    await asyncio.sleep(1)
    await producer.send_all(again)
    await producer.stop()


async def prepare(settings: Settings) -> None:
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()


async def states(settings: Settings, kind: TableKind[Any]) -> dict[tuple[int, int, tuple[str, ...]], Any]:
    """State by partition, window start and subject, as the changelog has it last."""
    codec: RowCodec[Any] = RowCodec(kind)
    name = f"{settings.worker.group}-{kind.name}-changelog"
    cluster = Cluster(settings.kafka)
    await cluster.start()
    rows: dict[tuple[int, bytes], bytes] = {}
    for partition in range((await cluster.topics())[name]):
        for record in await cluster.read_tail(Partition(name, partition), 1_000_000):
            assert record.key is not None
            assert record.value is not None
            rows[partition, record.key] = newest(rows.get((partition, record.key)), record.value)
    await cluster.stop()
    found = {}
    for (partition, raw_key), raw in rows.items():
        key = codec.decode_key(raw_key)
        if key is None:
            continue  # the meta row
        found[partition, key.start_ms, key.subject] = codec.decode(raw).state
    return found


async def rows_when(settings: Settings, kind: TableKind[Any], count: int, *, timeout_s: float = 30.0) -> Any:  # noqa: ANN401
    """The states, as soon as they hold `count` events together."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await states(settings, kind)
        first = kind.columns[0].name
        seen = sum(kind.fold.summarise(state)[first] for state in found.values())  # type: ignore[misc]
        if seen == count:
            return found
        assert time.monotonic() < deadline, f"{kind.name} holds {seen} events, not {count}"
        await asyncio.sleep(0.3)


def test_reports_and_searches_become_rows_once(settings: Settings, tmp_path: Path):
    settings = settings.model_copy(update={"worker": settings.worker.model_copy(update={"port": free_port()})})
    settings.worker.model_fields_set.add("port")
    settings.worker.data_dir.mkdir(parents=True)
    sessions, tenants = audio_quality.kinds(settings)

    async def scenario() -> None:
        await produce(settings)
        by_session = await rows_when(settings, sessions, REPORTS)
        by_tenant = await rows_when(settings, tenants, REPORTS)
        assert len(by_session) == REPORTS
        voice_partitions = {
            partition_for(f"acme\x1fs{session}".encode(), settings.kafka.partitions) for session in range(SESSIONS)
        }
        assert {partition for partition, _, _ in by_tenant} == voice_partitions
        assert sum(state.lost for state in by_tenant.values()) == sum(state.lost for state in by_session.values())
        searches = await rows_when(settings, retrieval_quality.kind(settings), 100)
        means = {
            subject: retrieval_quality.RetrievalFold().summarise(state) for (_, _, subject), state in searches.items()
        }
        assert {subject: mean["context_precision"] for subject, mean in means.items()} == {
            (f"docs{n}",): pytest.approx(0.416667) for n in range(4)
        }

    run(prepare(settings))
    with process(WORKER, settings, tmp_path / "worker.log") as worker:
        until_ready(f"http://127.0.0.1:{settings.worker.port}/readyz")
        run(scenario(), timeout_s=120)
        assert worker.stop() == 0
