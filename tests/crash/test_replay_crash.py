"""Owners and the replay itself are killed while rows are under way: every row arrives, none is counted twice."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.names import Topic, kafka_topic
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams.kafka_log import Partition
from tests.support.aio import run
from tests.support.mirroring import eventually
from tests.support.processes import WORKER, process, until_ready
from tests.support.replaying import (
    TENANTS,
    TOOLS,
    WINDOW_MS,
    call,
    cluster_of,
    moment,
    prepare,
    send,
    table,
    worker_settings,
)

pytestmark = pytest.mark.timeout(240)
NOW_MS = int(1000 * SystemClock().wall_s())
ROWS = 6_000
# Each call has a window of its own; together they are 17 hours.
T0 = NOW_MS // WINDOW_MS * WINDOW_MS - (ROWS + 360) * WINDOW_MS


async def pass_over(settings: Settings) -> None:
    """Commit the topic's end for the worker's group: its table begins after all that is there."""
    topic = kafka_topic(settings.prefix, Topic.TOOLS)
    async with cluster_of(settings) as cluster:
        ends = await cluster.true_end_offsets(Partition(topic, n) for n in range(settings.kafka.partitions))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap, group_id=settings.worker.group, enable_auto_commit=False
    )
    await consumer.start()
    offsets = {TopicPartition(*place): end for place, end in ends.items()}
    consumer.assign(list(offsets))
    await consumer.commit(offsets)
    await consumer.stop()


def test_killed_while_a_table_is_filled_it_is_filled_all_the_same(settings: Settings, tmp_path: Path):
    at = worker_settings(settings)
    prepare(at)
    calls = [call(number, T0 + WINDOW_MS * number) for number in range(ROWS)]
    run(send(at, calls, NOW_MS))
    run(pass_over(at))
    at.worker.data_dir.mkdir(parents=True)
    ready = f"http://127.0.0.1:{at.worker.port}/readyz"
    span = ("--from", moment(T0), "--to", moment(T0 + ROWS * WINDOW_MS))
    command = ("-m", "headrace", "replay", "tool_latency", "--state", str(tmp_path / "state"), *span)

    async def some(count: int) -> None:
        async def there() -> bool:
            return len(await table(at)) >= count

        await eventually(there, 60.0)

    with process(WORKER, at, tmp_path / "worker.log") as worker:
        until_ready(ready)
        assert run(table(at)) == {}
        with process(command, at, tmp_path / "replay.log") as replaying:
            run(some(1), timeout_s=90)
            worker.kill()
            shutil.rmtree(at.worker.data_dir)
            worker.start()
            until_ready(ready)
            run(some(ROWS // 2), timeout_s=90)
            replaying.kill()
            replaying.start()
            assert replaying.running.wait(100) == 0
        found = run(table(at))
    counts = Counter({key: summary["count"] for key, (_position, summary) in found.items()})
    assert set(counts.values()) == {1}
    subjects = len(TENANTS) * len(TOOLS)
    assert {(key.tenant_id, key.subject[0], key.start_ms) for key in counts} == {
        (TENANTS[n % 3], TOOLS[n % subjects // 3], T0 + WINDOW_MS * n) for n in range(ROWS)
    }
