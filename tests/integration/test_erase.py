"""A tenant is erased through a running worker: from every place, once and for all, and nobody else with it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from contracts.names import Stream, Topic, kafka_topic, redis_stream
from headrace.__main__ import app
from headrace.commands.archive import writing_alone
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams import postgres
from streams.archive import Archive
from streams.dead_letters import DeadLetters
from streams.kafka_log import Outgoing, Partition
from streams.kafka_producer import Producer
from streams.redis_log import NewEntry, RedisLog
from tables.row_codec import RowCodec
from tables.rows import WindowKey
from tables.tool_latency import kind
from tests.integration.test_tenants_command import headrace
from tests.support.aio import run
from tests.support.letters import record_letter
from tests.support.mirroring import eventually
from tests.support.processes import WORKER, Process, environment_of, process, until_ready
from tests.support.replaying import (
    TENANTS,
    WINDOW_MS,
    call,
    cluster_of,
    counted,
    prepare,
    send,
    table,
    until_counted,
    worker_settings,
)

pytestmark = pytest.mark.timeout(240)
NOW_MS = int(1000 * SystemClock().wall_s())
T0 = (NOW_MS - 7_200_000) // WINDOW_MS * WINDOW_MS
GONE, OTHERS = TENANTS[0], TENANTS[1:]


@pytest.fixture
def at(settings: Settings) -> Settings:
    made = worker_settings(settings)
    prepare(made)
    made.worker.data_dir.mkdir(parents=True)
    return made


@pytest.fixture
def worker(at: Settings, tmp_path: Path) -> Iterator[Process]:
    with process(WORKER, at, tmp_path / "worker.log") as running:
        ready(at)
        yield running


def ready(at: Settings) -> None:
    until_ready(f"http://127.0.0.1:{at.worker.port}/readyz")


def calls(count: int, *, begin: int = 0) -> list[tuple[bytes, bytes]]:
    return [call(number, T0 + number * 100) for number in range(begin, begin + count)]


async def erase(at: Settings, *arguments: str) -> dict[str, Any]:
    status, out, err = await headrace(at, "tenants", "erase", "--why", "asked", "--yes", "--json", *arguments)
    assert status == 0, err
    return dict(json.loads(out))


def amounts(found: list[dict[str, Any]]) -> dict[str, int]:
    return {each["place"]: each["amount"] for each in found if each["amount"]}


async def tenants_of(at: Settings) -> set[str]:
    return {key.tenant_id for key in await table(at)}


async def put_elsewhere(at: Settings) -> None:
    """A letter, an entry and a parked entry, of the tenant and of another one."""
    letters = [record_letter(n, tenant_id=tenant) for n, tenant in enumerate((GONE, GONE, OTHERS[0]))]
    async with postgres.pool(at.postgres, name="test", size=1) as pool:
        await DeadLetters(pool, at.postgres).bury(letters)
    redis = RedisLog(at.redis, at.prefix, client_name="test")
    stream = redis_stream(at.prefix, Stream.TOOLS)
    for number, tenant in enumerate((GONE, OTHERS[0], GONE, GONE)):
        fields = {"tenant_id": tenant, "payload": json.dumps({"tenant_id": tenant})}
        await redis.publish([NewEntry(stream, str(number), fields)])
    await redis.call("SADD", f"{at.prefix}:mirror:tools:parked", GONE)
    await redis.call("XADD", f"{at.prefix}:mirror:tools:parked:{GONE}", "*", "payload", "{}")
    await redis.close()


def test_a_tenant_is_erased_from_every_place_and_stays_so(at: Settings, worker: Process, tmp_path: Path):
    run(send(at, calls(3000), NOW_MS))
    run(until_counted(at, 3000), timeout_s=60)
    folder = tmp_path / "archive"
    assert run(headrace(at, "archive", "--dir", str(folder)), timeout_s=60)[0] == 0
    run(put_elsewhere(at))
    before, old = run(table(at)), run(changelog(at))
    kept = {key: row for key, row in before.items() if key.tenant_id != GONE}

    dry = run(erase(at, GONE, "--dry-run", "--archive", str(folder)), timeout_s=60)
    rows = len(before) - len(kept)
    holds = {"Redis": 4, "dead letters": 2, "table tool_latency": rows, f"archive {folder}": 1000}
    assert amounts(dry["found"]) == holds
    assert (dry["erased"], run(table(at))) == ([], before), "a dry run changes nothing"
    refused(at, folder)
    status, _out, err = run(headrace(at, "tenants", "erase", "nobody", "--why", "asked", "--yes"), timeout_s=60)
    assert (status, "something is kept of; nothing is" in err) == (2, True), err
    assert (run(table(at)), run(left(at))) == (before, (3, [], [])), "nothing was begun"

    done = run(erase(at, GONE, "--archive", str(folder)), timeout_s=120)
    assert amounts(done["erased"]) == holds
    assert any("tools keeps its records" in line for line in done["remains"])
    assert run(table(at)) == kept, "rows of others are as they were, in the changelog too"
    assert run(archived(at, folder)) == 2000
    assert run(headrace(at, "archive", "--dir", str(folder)), timeout_s=60)[0] == 0, (
        "the archive goes on where it ended"
    )
    assert run(left(at)) == (1, ["erased", "erased"], ["erase", "erased"])

    # New data is counted. An old row that a frozen owner writes late comes to nothing, and so does its late deletion of
    # a row that is new since, also for a worker that has nothing but the changelog.
    run(send(at, [each for each in calls(60, begin=3000) if GONE.encode() in each[0]], NOW_MS))
    run(until_counted(at, 2000 + 20), timeout_s=60)
    worker.kill()
    shutil.rmtree(at.worker.data_dir)
    at.worker.data_dir.mkdir()
    new = {key for key in run(table(at)) if key.tenant_id == GONE}
    run(write_late(at, old, new))
    worker.start()
    ready(at)
    dry = run(erase(at, GONE, "--dry-run"), timeout_s=60)
    assert amounts(dry["found"]) == {"table tool_latency": len(new)}


def refused(at: Settings, folder: Path) -> None:
    """Nothing is erased against a no, nor beside somebody who writes to the archive."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment_of(at).items():
            patched.setenv(name, value)
        command = ["tenants", "erase", GONE, "--why", "asked", "--archive", str(folder)]
        result = CliRunner().invoke(app, command, input="n\n")
        assert (result.exit_code, "cannot be undone" in result.stderr) == (1, True), result.output
        with writing_alone(folder):
            result = CliRunner().invoke(app, command, input="y\n")
        assert (result.exit_code, "failed" in result.output) == (2, True), result.output


async def archived(at: Settings, folder: Path) -> int:
    archive = Archive(folder)
    places = [Partition(kafka_topic(at.prefix, Topic.TOOLS), n) for n in range(at.kafka.partitions)]
    return sum(file.records for place in places for file in archive.files(place))


async def left(at: Settings) -> tuple[int, list[str], list[str]]:
    """Letters that are there, how the others left, and what the tenants' audit says."""
    connection = await postgres.connect(at.postgres, name="test")
    letters = await connection.fetchval("SELECT count(*) FROM headrace.dead_letter")
    moves = await connection.fetch("SELECT to_state FROM headrace.dead_letter_audit ORDER BY id")
    audit = await connection.fetch("SELECT move FROM headrace.tenant_audit ORDER BY id")
    await postgres.close(connection)
    return letters, [row["to_state"] for row in moves], [row["move"] for row in audit]


async def changelog(at: Settings) -> list[tuple[int, bytes, bytes]]:
    """Partition, key and value of the tenant's rows, every version."""
    name, found = f"{at.worker.group}-tool_latency-changelog", []
    async with cluster_of(at) as cluster:
        for number in range(at.kafka.partitions):
            for record in await cluster.read_tail(Partition(name, number), 1_000_000):
                key, value = record.key or b"", record.value
                if value is not None and GONE.encode() in key and b"erased" not in key:
                    found += [(number, key, value)]
    return found


async def write_late(at: Settings, old: list[tuple[int, bytes, bytes]], new: set[WindowKey]) -> None:
    """What a former owner had in hand: rows as they were, and deletions of an erasure that it was carrying out."""
    name, codec, producer = f"{at.worker.group}-tool_latency-changelog", RowCodec(kind(at)), Producer(at.kafka)
    places = {codec.encode_key(key): key for key in new}
    records = [Outgoing(name, key, value, [], NOW_MS, number) for number, key, value in old if key not in places]
    deleted = {(number, key) for number, key, _value in await changelog(at) if key in places}
    records += [Outgoing(name, key, None, [], NOW_MS, number) for number, key in deleted]
    assert deleted
    await producer.start()
    await producer.send_all(records)
    await producer.stop()


def test_an_erasure_that_is_killed_goes_on_and_leaves_what_came_meanwhile(
    at: Settings, worker: Process, tmp_path: Path
):
    run(send(at, calls(6000), NOW_MS))
    run(until_counted(at, 6000), timeout_s=60)
    run(put_elsewhere(at))
    arguments = ("-m", "headrace", "tenants", "erase", GONE, "--why", "asked", "--yes")
    with process(arguments, at, tmp_path / "erase.log") as asking:
        run(until_first_mark(at), timeout_s=60)
        asking.kill()
        worker.kill()
    worker.start()
    ready(at)
    done = run(erase(at, GONE), timeout_s=120)
    assert counted(run(table(at))) == 4000
    assert GONE not in run(tenants_of(at))
    assert done["erased"]
    assert run(left(at))[2] == ["erase", "erased"], "the second run went on with the first"
    run(send(at, [call(0, T0)], NOW_MS))
    run(until_counted(at, 4001), timeout_s=60)
    again = run(erase(at, GONE), timeout_s=120)
    assert amounts(again["erased"]) == {"table tool_latency": 1}, "what came after is another erasure's"


async def until_first_mark(at: Settings) -> None:
    name = f"{at.worker.group}-tool_latency-changelog"

    async def there() -> bool:
        async with cluster_of(at) as cluster:
            for number in range(at.kafka.partitions):
                for record in await cluster.read_tail(Partition(name, number), 1_000_000):
                    if b"erased" in (record.key or b""):
                        return True
        return False

    await eventually(there, 60.0)


def test_others_lose_nothing_while_a_tenant_that_still_sends_is_erased(at: Settings, worker: Process):
    del worker
    run(send(at, calls(3000), NOW_MS))
    run(until_counted(at, 3000), timeout_s=60)

    async def meanwhile() -> None:
        done, begin = asyncio.create_task(erase(at, GONE)), 3000
        while not done.done():
            await send(at, calls(300, begin=begin), NOW_MS)
            begin += 300
            await asyncio.sleep(0.1)
        await done
        await send(at, calls(300, begin=begin), NOW_MS)
        begin += 300

        async def all_of_others() -> bool:
            return await count_of(at, set(OTHERS)) == begin * 2 // 3

        await eventually(all_of_others, 60.0)
        last = await count_of(at, {GONE})
        assert 100 <= last <= (begin - 3000) // 3, "what came behind the erasure is new data, what came before is gone"

    run(meanwhile(), timeout_s=180)


async def count_of(at: Settings, tenants: set[str]) -> int:
    return sum(summary["count"] for key, (_, summary) in (await table(at)).items() if key.tenant_id in tenants)
