"""`headrace topics grow`: refused while anything runs or is left to do, resumed after a kill, and exact."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.names import Stream, TenantId, kafka_topic, redis_stream, topic_of
from contracts.routing import subject_key
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams import growth_journal, postgres, topics
from streams.kafka_log import Outgoing, partition_for
from streams.kafka_producer import Producer
from streams.leases import Leases
from streams.redis_log import RedisLog
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.engine_fleet import Worker, engine_settings, fleet
from tests.support.engine_load import flowing, make_topics
from tests.support.engine_truth import TABLE, connected
from tests.support.processes import environment_of
from tests.support.servers import kafka_is_embedded

BEFORE, AFTER = 4, 6
RATE_PER_S = 500
TENANT = "11111111-1111-4111-8111-111111111111"


def headrace(settings: Settings, *arguments: str, command: str = "topics") -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    line = [sys.executable, "-m", "headrace", command, *arguments]
    return subprocess.Popen(line, env=environment_of(settings), stdout=pipe, stderr=pipe, text=True)


async def told(settings: Settings, *arguments: str, command: str = "topics") -> tuple[int, str]:
    """Exit status of a command and all that it said."""
    running = headrace(settings, *arguments, command=command)
    out, err = await asyncio.to_thread(running.communicate)
    return running.returncode, out + err


async def grow(settings: Settings, to: int = AFTER) -> tuple[int, str]:
    return await told(settings, "grow", "--partitions", str(to))


async def experiment(settings: Settings, seed: int) -> None:
    """Units that are exposed, and do something, in the topic as it is now."""
    rng = random.Random(seed)
    producer = Producer(settings.kafka)
    await producer.start()
    common: dict[str, object] = {"version": "1.0", "tenant_id": TENANT, "experiment": "x", "ts": "2026-01-01T00:00:00Z"}
    records, now_ms = [], int(1000 * SystemClock().wall_s())
    for number in range(200):
        unit = f"u{rng.randrange(60)}"
        each = common | {"unit": unit, "event_id": f"{seed}-{number}"}
        if rng.random() < 0.5:
            each |= {"event": "ab_test_assignment", "arm": "b" if int(unit[1:]) % 2 else "control"}
        else:
            each |= {"event": "ab_test_outcome", "metric": "spend", "kind": "mean", "value": rng.randrange(100)}
        topic = kafka_topic(settings.prefix, topic_of(Stream.EXPERIMENTS))
        records.append(Outgoing(topic, f"{TENANT}\x1f{unit}".encode(), json.dumps(each).encode(), [], now_ms))
    await producer.send_all(records)
    await producer.stop()


async def expected_spend(settings: Settings) -> dict[str, tuple[int, float]]:
    """Units that spent, and their mean, of each arm, counted anew from the topic."""
    async with connected(settings) as cluster:
        found = await engine_truth.records_of(cluster, kafka_topic(settings.prefix, topic_of(Stream.EXPERIMENTS)))
    arms: dict[str, str] = {}
    spent: dict[str, int] = {}
    for event in (json.loads(record.value or b"") for record in found):
        if event["event"] == "ab_test_assignment":
            arms[event["unit"]] = event["arm"]
        else:
            spent[event["unit"]] = spent.get(event["unit"], 0) + event["value"]
    totals: dict[str, list[int]] = {}
    for unit in arms.keys() & spent.keys():
        totals.setdefault(arms[unit], []).append(spent[unit])
    return {arm: (len(units), sum(units) / len(units)) for arm, units in totals.items()}


async def told_spend(settings: Settings, worker: Worker) -> dict[str, tuple[int, float]]:
    told = await asyncio.to_thread(engine_truth.results, settings, worker.port, TENANT)
    return {row["arm"]: (row["n"], row["mean"]) for row in told if row["metric"] == "spend"}


async def work(settings: Settings, worker: Worker, seed: int) -> None:
    """A worker folds a load and an experiment to the end, and is stopped."""
    worker.start()
    await worker.ready()
    await experiment(settings, seed)
    async with flowing(settings, rate_per_s=RATE_PER_S, seed=seed):
        await asyncio.sleep(3.0)
    await engine_truth.settled(settings)


def with_partitions(settings: Settings, partitions: int) -> Settings:
    return engine_settings(settings, partitions=partitions)


@pytest.mark.real
@pytest.mark.timeout(240)
def test_tables_are_right_after_growth_that_was_killed_in_the_midst(settings: Settings, tmp_path: Path):
    old, new = with_partitions(settings, BEFORE), with_partitions(settings, AFTER)

    async def scenario() -> None:
        await make_topics(old)
        async with fleet(old, tmp_path, 1) as (before,), fleet(new, tmp_path, 1) as (after,):
            await work(old, before, seed=21)
            status, said = await grow(old)
            assert (status, "has members" in said) == (2, True), said
            assert await before.stop() == 0

            await killed_in_the_midst(old)
            before.start()
            assert await before.ended() == 2, "a worker started on topics that are half grown"
            assert "topics grow --partitions 6" in before.said()
            status, said = await grow(old, AFTER + 1)
            assert (status, "a growth to 6 broke off" in said) == (2, True), said

            status, said = await grow(old)
            assert status == 0, said
            assert await partitions_of(new) == {AFTER}
            before.start()
            assert await before.ended() == 2, "a worker started with the old number of partitions"

            await work(new, after, seed=22)
            truth = await engine_truth.settled(new)
            assert engine_truth.wrong_rows(truth) == {}
            assert await engine_truth.wrong_views(new, truth, [after]) == {}
            assert misplaced(truth) == []
            status, said = await told(new, TABLE, "--from", "now-1h", "--to", "now", "--dry-run", command="replay")
            assert (status, "the topics were given more partitions" in said) == (1, True), said
            expected = await expected_spend(new)
            spent = await told_spend(new, after)
            assert {arm: n for arm, (n, _) in spent.items()} == {arm: n for arm, (n, _) in expected.items()}
            assert all(mean == pytest.approx(expected[arm][1], rel=1e-12) for arm, (_, mean) in spent.items())

    run(scenario(), timeout_s=230)


async def killed_in_the_midst(settings: Settings) -> None:
    """Kill a growth as soon as its journal says that it is under way."""
    running = headrace(settings, "grow", "--partitions", str(AFTER))
    async with asyncio.timeout(60), connected(settings) as cluster:
        while await growth_journal.last_entry(cluster, settings) is None:
            assert running.poll() is None, running.communicate()
            await asyncio.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    await asyncio.to_thread(running.communicate)
    assert running.returncode == -signal.SIGKILL, "it was done before it could be killed"


async def partitions_of(settings: Settings) -> set[int]:
    async with connected(settings) as cluster:
        known = await cluster.topics()
    names = [topic.name for topic in topics.wanted(settings)] + [engine_truth.changelog(settings)]
    return {known[name] for name in names}


def misplaced(truth: engine_truth.Truth) -> list[object]:
    """Rows that are not where the records of their keys are now."""
    keys = [(partition, engine_truth.key_of(raw)) for partition, raw in truth.rows]
    return [
        (partition, key)
        for partition, key in keys
        if partition_for(subject_key(TenantId(key.tenant), key.tool), AFTER) != partition
    ]


@pytest.mark.real
@pytest.mark.timeout(240)
def test_growth_is_refused_while_records_are_left_a_mirror_runs_or_ended_badly(settings: Settings):
    settings = with_partitions(settings, BEFORE)

    async def scenario() -> None:
        await make_topics(settings)
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        stream = redis_stream(settings.prefix, Stream.TOOLS)
        leases = Leases(redis, settings.prefix)
        lease = await leases.acquire(stream, "somebody:1:abc", 60)
        assert lease is not None
        status, said = await grow(settings)
        assert (status, "somebody:1:abc holds tools" in said) == (2, True), said
        await leases.release(lease)

        connection = await postgres.connect(settings.postgres, name="test")
        await connection.execute("UPDATE headrace.requeuer SET until = clock_timestamp() + interval '1 hour'")
        status, said = await grow(settings)
        assert (status, "a control process runs" in said) == (2, True), said
        await connection.execute("UPDATE headrace.requeuer SET until = '-infinity'")
        await postgres.close(connection)

        await sent_by_a_mirror(settings, "5-0")
        status, said = await grow(settings)
        assert (status, "killed in the midst of a batch" in said) == (2, True), said
        lease = await leases.acquire(stream, "somebody:1:abc", 60)
        assert lease is not None
        await leases.write_position(lease, {"position": "5-0"})
        await leases.release(lease)
        await redis.close()

        status, said = await grow(settings)
        assert (status, f"{settings.prefix}.tools: 1" in said) == (2, True), said
        status, said = await grow(settings, BEFORE)
        assert (status, f"must be from {BEFORE + 1} to 512 (got {BEFORE})" in said) == (2, True), said
        async with connected(settings) as cluster:
            assert await growth_journal.last_entry(cluster, settings) is None, "it was refused, and yet began"

    run(scenario(), timeout_s=230)


async def sent_by_a_mirror(settings: Settings, entry_id: str) -> None:
    producer = Producer(settings.kafka)
    await producer.start()
    topic = kafka_topic(settings.prefix, topic_of(Stream.TOOLS))
    headers = [("redis_id", entry_id.encode()), ("ce_id", b"ob-1-1"), ("epoch", b"1")]
    await producer.send_all([Outgoing(topic, b"t\x1fs", b"{}", headers, 0)])
    await producer.stop()


def test_a_broker_that_cannot_add_partitions_is_told_from_one_that_can(settings: Settings):
    if not kafka_is_embedded():
        pytest.skip("only the embedded broker cannot")

    async def scenario() -> None:
        await make_topics(settings)
        status, said = await grow(settings, 64)
        assert (status, "this broker cannot add partitions" in said) == (2, True), said

    run(scenario(), timeout_s=60)


def test_a_plan_shows_the_load_and_its_arithmetic(settings: Settings):
    async def scenario() -> None:
        await make_topics(settings)
        async with flowing(settings, rate_per_s=RATE_PER_S, seed=5) as load:
            await asyncio.sleep(2.0)
        status, said = await told(settings, "plan", "--hours", "1", "--capacity", "1", "--growth", "3", "--json")
        assert status == 0, said
        found = json.loads(said)
        (tools,) = [
            topic for topic in found["topics"] if topic["topic"] == kafka_topic(settings.prefix, topic_of(Stream.TOOLS))
        ]
        # The log is younger than a minute, which is the shortest stretch that is believed.
        assert tools["per_s"] == pytest.approx(load.sent / 60, rel=0.01)
        assert tools["waiting"] == load.sent
        assert found["workers"] == -(-3 * load.sent // 60)
        assert found["grow"] is True
        assert found["to"] % found["partitions"] == 0
        status, said = await told(settings, "plan", "--hours", "1")
        assert status == 0, said
        assert "enough" in said

    run(scenario(), timeout_s=110)
