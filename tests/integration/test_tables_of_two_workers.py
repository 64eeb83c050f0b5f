"""Two real workers on one consumer group: who has which rows comes from Faust's assignment, and changes with it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from contracts.names import TenantId, Topic, kafka_topic
from contracts.routing import subject_key
from headrace.servers.probes import free_port
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Outgoing, partition_for
from streams.kafka_producer import Producer
from tests.support.aio import run
from tests.support.gateway import token
from tests.support.processes import WORKER, Process, process, until_ready
from tests.support.table_workers import Got, get

TENANT = TenantId("acme")
TOOLS = [f"tool-{n}" for n in range(12)]
CALLS = 240
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def pair(settings: Settings, tmp_path: Path) -> Iterator[list[tuple[Settings, Process]]]:
    """Two workers that are ready, and own partitions each."""
    run(prepared(settings))
    with ExitStack() as stack:
        started = []
        for number in range(2):
            data_dir = tmp_path / f"data-{number}"
            data_dir.mkdir()
            changes: dict[str, object] = {"port": free_port(), "data_dir": data_dir, "session_timeout_s": 3.0}
            worker = settings.worker.model_copy(update=changes)
            worker.model_fields_set.update(changes)
            own = settings.model_copy(update={"worker": worker})
            started.append((own, stack.enter_context(process(WORKER, own, tmp_path / f"worker-{number}.log"))))
        for own, _ in started:
            until_ready(f"http://127.0.0.1:{own.worker.port}/readyz")
        yield started


async def prepared(settings: Settings) -> None:
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()


async def produce(settings: Settings) -> None:
    producer = Producer(settings.kafka)
    await producer.start()
    now_ms = int(1000 * time.time())
    records = []
    for n in range(CALLS):
        tool = TOOLS[n % len(TOOLS)]
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_ms // 1000 - 60 + n // 10))
        call = {"event": "tool_call", "version": "1.0", "tenant_id": TENANT, "tool": tool, "args": {}}
        value = json.dumps(call | {"latency_ms": 10 + n, "ts": at}).encode()
        key = subject_key(TENANT, tool)
        records.append(Outgoing(kafka_topic(settings.prefix, Topic.TOOLS), key, value, [], now_ms))
    await producer.send_all(records)
    await producer.stop()


async def asked(settings: Settings, path: str = "tool_latency/") -> Got:
    headers = {"Authorization": f"Bearer {token(settings, TENANT)}"}
    return await get(f"http://127.0.0.1:{settings.worker.port}/tables/{path}", headers)


def counted(got: Got) -> int:
    return sum(row["count"] for row in got.json["rows"]) if got.status == 200 else -1


def counts(got: Got) -> list[dict[str, Any]]:
    """The rows, without what changes while the watermark moves on."""
    return [{name: value for name, value in row.items() if name != "closed"} for row in got.json["rows"]]


async def until_whole(settings: Settings, timeout_s: float = 60.0) -> list[Got]:
    """Ask until all calls are there and nothing is missing; all answers on the way."""
    answers: list[Got] = []
    async with asyncio.timeout(timeout_s):
        while not (
            answers and answers[-1].status == 200 and not answers[-1].json["partial"] and counted(answers[-1]) == CALLS
        ):
            await asyncio.sleep(0.1)
            answers.append(await asked(settings))
    return answers


async def partitions_here(settings: Settings) -> set[int]:
    tables: list[dict[str, Any]] = (await asked(settings, "")).json["tables"]
    return next(set(table["partitions"]) for table in tables if table["name"] == "tool_latency")


async def until_shared(*workers: Settings) -> None:
    """Wait until each worker owns some partition."""
    async with asyncio.timeout(60):
        while not all([await partitions_here(own) for own in workers]):  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.1)


def test_rows_are_found_on_their_owners_named_when_one_is_killed_and_whole_again_after(
    pair: list[tuple[Settings, Process]],
):
    (left, _), (right, dying) = pair

    async def scenario() -> None:
        await until_shared(left, right)
        await produce(left)
        both = [(await until_whole(own))[-1] for own in (left, right)]
        assert counts(both[0]) == counts(both[1])
        owned = [await partitions_here(own) for own in (left, right)]
        assert owned[0] | owned[1] == set(range(left.kafka.partitions))
        assert not owned[0] & owned[1]
        for tool in TOOLS:
            one, two = [await asked(own, f"tool_latency/{tool}/") for own in (left, right)]
            assert counted(one) == CALLS // len(TOOLS)
            assert counts(one) == counts(two)

        dying.kill()
        partial = await asked(left)
        assert partial.json["partial"] is True
        assert {gone["partition"] for gone in partial.json["missing"]} == owned[1]
        theirs = next(t for t in TOOLS if partition_for(subject_key(TENANT, t), left.kafka.partitions) in owned[1])
        unanswered = await asked(left, f"tool_latency/{theirs}/")
        assert unanswered.status == 503
        assert int(unanswered.headers["Retry-After"]) >= 1

        for answer in await until_whole(left):
            assert answer.status in (200, 503)
            if answer.status == 503:
                assert set(answer.json["progress"]) == {"rows_replayed", "rows_to_replay"}
            elif counted(answer) < CALLS:
                assert answer.json["partial"] is True, "rows were missing, and nobody said so"
        assert await partitions_here(left) == owned[0] | owned[1]

    run(scenario(), timeout_s=150)
