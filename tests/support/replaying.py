"""Tool calls at chosen event times, a worker's table as it is durable, and replays of it, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.names import TenantId, Topic, kafka_topic
from headrace.servers.probes import free_port
from runtime.settings import Settings
from streams import topics
from streams.kafka_admin import Admin
from streams.kafka_log import Cluster, Outgoing, Partition, partition_for
from streams.kafka_producer import Producer
from tables import tool_latency
from tables.replacement import FORMAT, Replacement, encode
from tables.row_codec import Row, RowCodec
from tables.rows import WindowKey, newest
from tests.support.aio import run
from tests.support.mirroring import eventually
from tests.support.processes import environment_of

TENANTS = (TenantId("acme"), TenantId("bolt"), TenantId("cord"))
TOOLS = ("search", "price")
WINDOW_MS = 10_000


def worker_settings(settings: Settings, **changes: Any) -> Settings:  # noqa: ANN401 - fields of several types
    """Settings of a worker with a free port that keeps windows for a day; `changes` are of tool_latency."""
    worker = settings.worker.model_copy(update={"port": free_port(), "idle_close_s": 1.0})
    worker.model_fields_set.update({"port", "idle_close_s"})
    lengths = {"retention_s": 86_400, **changes}
    table = settings.tool_latency.model_copy(update=lengths)
    table.model_fields_set.update(lengths)
    return settings.model_copy(update={"worker": worker, "tool_latency": table})


def call(number: int, at_ms: int, tenant: str | None = None) -> tuple[bytes, bytes]:
    """Key and payload of a tool call at an event time; tenant, tool and latency follow from its number."""
    owner, tool = tenant or TENANTS[number % len(TENANTS)], TOOLS[number // len(TENANTS) % len(TOOLS)]
    event = {
        "event": "tool_executed",
        "version": "1.0",
        "tenant_id": owner,
        "tool": tool,
        "latency_ms": 1 + number % 1000,
        "status": "error" if number % 17 == 0 else "ok",
        "ts": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return f"{owner}\x1f{tool}".encode(), json.dumps(event).encode()


async def send(settings: Settings, calls: Iterable[tuple[bytes, bytes]], stamp_ms: int) -> None:
    """Put calls on the tools topic with one record timestamp, as the mirror would."""
    producer, topic = Producer(settings.kafka), kafka_topic(settings.prefix, Topic.TOOLS)
    await producer.start()
    await producer.send_all([Outgoing(topic, key, value, [], stamp_ms) for key, value in calls])
    await producer.stop()


@asynccontextmanager
async def cluster_of(settings: Settings) -> AsyncIterator[Cluster]:
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


def prepare(settings: Settings) -> None:
    """Create all topics."""

    async def made() -> None:
        async with cluster_of(settings) as cluster:
            await topics.ensure(cluster, settings)

    run(made())


async def table(settings: Settings) -> dict[WindowKey, tuple[int, dict[str, Any]]]:
    """The rows of tool_latency as its changelog has them: position and summary by key."""
    kind = tool_latency.kind(settings)
    codec: RowCodec[Any] = RowCodec(kind)
    rows: dict[bytes, bytes] = {}
    async with cluster_of(settings) as cluster:
        name = f"{settings.worker.group}-tool_latency-changelog"
        for number in range((await cluster.topics([name])).get(name, 0)):
            for record in await cluster.read_tail(Partition(name, number), 1_000_000):
                key = record.key or b""
                if record.value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = newest(rows.get(key), record.value)
    named = [(codec.decode_key(raw_key), raw) for raw_key, raw in rows.items()]
    decoded = {key: codec.decode(raw) for key, raw in named if key is not None}
    return {key: (row.position, kind.fold.summarise(row.state)) for key, row in decoded.items()}


def counted(found: dict[WindowKey, tuple[int, dict[str, Any]]]) -> int:
    """The calls in all rows."""
    return sum(summary["count"] for _position, summary in found.values())


async def until_counted(settings: Settings, count: int) -> None:
    """Wait until the table holds so many calls."""

    async def all_there() -> bool:
        return counted(await table(settings)) == count

    await eventually(all_there, 30.0)


def replay(settings: Settings, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`headrace replay tool_latency`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "headrace", "replay", "tool_latency", "--state", str(state), "--json", *arguments],
        env=environment_of(settings),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=state.parent,
    )


def report_of(done: subprocess.CompletedProcess[str], status: int = 0) -> dict[str, Any]:
    """The report of a replay that ended with this status."""
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def moment(at_ms: int) -> str:
    """A time as the command takes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def by_partition(settings: Settings, calls: Sequence[tuple[bytes, bytes]]) -> dict[int, int]:
    """How many of the calls each partition gets."""
    counts = dict.fromkeys(range(settings.kafka.partitions), 0)
    for key, _value in calls:
        counts[partition_for(key, settings.kafka.partitions)] += 1
    return counts


async def tell_owner(settings: Settings, key: WindowKey, numbers: Iterable[int], read_up_to: int) -> None:
    """A forced command that makes a row hold the calls of these numbers, whatever its topic says."""
    kind = tool_latency.kind(settings)
    codec: RowCodec[Any] = RowCodec(kind)
    row: Row[Any] = Row(kind.fold.empty(), position=read_up_to, announced=read_up_to)
    payloads = [call(number, key.start_ms)[1] for number in numbers]
    calls = kind.samples(payloads, settings.contracts.mode).values
    kind.fold.add_each([row.state], (0, len(calls)), calls)
    source, commands = (kafka_topic(settings.prefix, topic) for topic in (Topic.TOOLS, Topic.REPLACEMENTS))
    admin = Admin(settings.kafka)
    await admin.start()
    incarnation = (await admin.incarnations([source]))[source]
    await admin.stop()
    tool, _version = key.subject
    partition = partition_for(f"{key.tenant_id}\x1f{tool}".encode(), settings.kafka.partitions)
    raw = codec.encode_key(key)
    command = Replacement(
        FORMAT, "by-hand", kind.name, settings.worker.group, incarnation, raw, codec.encode(row), read_up_to, force=True
    )
    producer = Producer(settings.kafka)
    await producer.start()
    await producer.send_all([Outgoing(commands, raw, encode(command), [], 0, partition)])
    await producer.stop()
