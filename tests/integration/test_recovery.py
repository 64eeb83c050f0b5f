"""A worker takes its rows up where it left them: from its disk, from the changelog, or from having stood by."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from contracts.names import TenantId, Topic, kafka_topic
from headrace.servers.probes import free_port
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Partition
from streams.kafka_producer import BatchRecord, Producer
from tables.rocks_store import RocksMemory, RocksStore
from tables.rows import WindowKey, encode_key, newest
from tests.support import engine_truth
from tests.support.aio import run
from tests.support.kafka import delete_topic
from tests.support.processes import Process, process
from tests.support.servers import kafka_is_embedded

COUNTING_WORKER = ("-m", "faust", "-A", "tests.support.counting_worker", "worker", "-l", "info")
PARTITIONS = 4
KEYS = 20_000
pytestmark = pytest.mark.timeout(180)


@dataclass
class Told:
    """What a counting worker told when it owned its partitions."""

    owned: list[int]
    standby: list[int]
    replayed: int
    rows: int
    total: int


@pytest.fixture
def counting(settings: Settings) -> Settings:
    """Settings of a worker on few partitions; a killed one is missed as soon as the broker allows."""
    session_timeout_s = 3.0 if kafka_is_embedded() else 6.0
    return changed(
        settings, kafka={"partitions": PARTITIONS}, worker={"port": free_port(), "session_timeout_s": session_timeout_s}
    )


def changed(settings: Settings, **groups: dict[str, object]) -> Settings:
    """The settings with other values in some groups."""
    given = settings.model_dump(exclude_unset=True)
    for group, values in groups.items():
        given[group] = given.get(group, {}) | values
    return Settings.model_validate(given)


def tellings(worker: Process) -> list[Told]:
    lines = worker.log.read_text(errors="replace").splitlines()
    return [Told(**json.loads(line.removeprefix("told "))) for line in lines if line.startswith("told ")]


def until_told(worker: Process, wanted: Callable[[list[Told]], bool] = bool) -> Told:
    """The newest telling once `wanted` is true of all of them."""
    deadline = time.monotonic() + 60
    while not wanted(found := tellings(worker)):
        assert time.monotonic() < deadline, f"told only {found}"
        time.sleep(0.1)
    return found[-1]


def restarted(worker: Process) -> Told:
    """What the worker tells after it was started again."""
    before = len(tellings(worker))
    worker.start()
    return until_told(worker, lambda found: len(found) > before)


def source(settings: Settings) -> str:
    return kafka_topic(settings.prefix, Topic.TOOLS)


def changelog(settings: Settings) -> str:
    return f"{settings.worker.group}-counted-changelog"


def key_of(number: int) -> bytes:
    return encode_key("ct", WindowKey(TenantId(f"k{number}"), (), 0))


def count_keys(settings: Settings, keys: range, value: bytes = b"x") -> None:
    """Send one record for each key, to the source partition of its number; all of a partition in one batch."""
    append(settings, source(settings), [(number, b"k%d" % number, value) for number in keys])


def append(settings: Settings, topic: str, records: Sequence[tuple[int, bytes, bytes | None]]) -> None:
    async def send() -> None:
        producer = Producer(settings.kafka)
        await producer.start()
        for partition in range(PARTITIONS):
            batch = [BatchRecord(key, value, 1) for number, key, value in records if number % PARTITIONS == partition]
            for start in range(0, len(batch), 5_000):
                await producer.send_batch(topic, partition, batch[start : start + 5_000])
        await producer.stop()

    run(send())


def until_folded(settings: Settings, count: int) -> None:
    """Wait until so many source records are folded, durable and committed."""

    async def folded() -> None:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        places = [Partition(source(settings), number) for number in range(PARTITIONS)]
        while sum((await cluster.committed(settings.worker.group, places)).values()) < count:  # noqa: ASYNC110  a server
            await asyncio.sleep(0.1)
        await cluster.stop()

    run(folded(), timeout_s=60)


def test_a_restart_replays_nothing_that_is_on_its_disk(counting: Settings, tmp_path: Path):
    with process(COUNTING_WORKER, counting, tmp_path / "worker.log") as worker:
        until_told(worker)
        count_keys(counting, range(KEYS))
        until_folded(counting, KEYS)
        assert worker.stop() == 0
        told = restarted(worker)
        assert (told.replayed, told.rows, told.total) == (0, KEYS, KEYS)
        count_keys(counting, range(KEYS))
        until_folded(counting, 2 * KEYS)
        worker.kill()
        told = restarted(worker)
        assert (told.replayed, told.rows, told.total) == (0, KEYS, 2 * KEYS)


@pytest.mark.parametrize("kind", ["rocksdb", "memory"])
def test_without_its_disk_a_worker_reads_the_whole_changelog(counting: Settings, tmp_path: Path, kind: str):
    settings = changed(counting, store={"kind": kind})
    with process(COUNTING_WORKER, settings, tmp_path / "worker.log") as worker:
        until_told(worker)
        count_keys(settings, range(KEYS))
        until_folded(settings, KEYS)
        worker.kill()
        shutil.rmtree(settings.worker.data_dir)
        told = restarted(worker)
        assert (told.rows, told.total) == (KEYS, KEYS)
        assert told.replayed >= KEYS


def test_a_standby_takes_over_with_the_rows_that_it_has(counting: Settings, tmp_path: Path):
    other = changed(counting, worker={"port": free_port(), "data_dir": tmp_path / "other"})
    everything = list(range(PARTITIONS))
    with (
        process(COUNTING_WORKER, counting, tmp_path / "one.log") as one,
        process(COUNTING_WORKER, other, tmp_path / "two.log") as two,
    ):
        for worker in (one, two):
            until_told(worker, lambda found: bool(found) and len(found[-1].owned) == len(found[-1].standby) == 2)
        count_keys(counting, range(KEYS))
        until_folded(counting, KEYS)
        one.kill()
        told = until_told(two, lambda found: found[-1].owned == everything)
        assert (told.rows, told.total) == (KEYS, KEYS)
        # It had the other's rows from following the changelog; what it took in at the takeover is the very end of it.
        assert told.replayed < KEYS / 10
        count_keys(counting, range(KEYS))
        until_folded(counting, 2 * KEYS)
        told = restarted(one)
        assert len(told.owned) == 2
        one.kill()
        assert until_told(two, lambda found: found[-1].owned == everything).total == 2 * KEYS


def test_rows_that_a_paused_owner_writes_late_do_not_win(counting: Settings, tmp_path: Path):
    with process(COUNTING_WORKER, counting, tmp_path / "worker.log") as worker:
        until_told(worker)
        for _ in range(2):
            count_keys(counting, range(100))
        until_folded(counting, 200)
        worker.kill()
        # Each row as it stood after its first record.
        late = [(n, key_of(n), msgspec.msgpack.encode((1, n // PARTITIONS, -1, 1))) for n in range(100)]
        append(counting, changelog(counting), late)
        shutil.rmtree(counting.worker.data_dir)
        told = restarted(worker)
        assert (told.rows, told.total) == (100, 200)
        assert told.replayed >= 200
        run(until_late_rows_are_written_over(counting))
        worker.kill()
        shutil.rmtree(counting.worker.data_dir)
        assert restarted(worker).total == 200


async def until_late_rows_are_written_over(settings: Settings) -> None:
    """Wait until the changelog ends with the newest version of each row, as compaction would leave it."""
    async with asyncio.timeout(60), engine_truth.connected(settings) as cluster:
        while True:
            last: dict[bytes | None, bytes] = {}
            newest_of: dict[bytes | None, bytes] = {}
            for record in await engine_truth.records_of(cluster, changelog(settings)):
                last[record.key] = value = record.value or b""
                newest_of[record.key] = newest(newest_of.get(record.key), value)
            if last == newest_of:
                return
            await asyncio.sleep(0.1)


def test_deleted_rows_stay_deleted_with_and_without_a_disk(counting: Settings, tmp_path: Path):
    with process(COUNTING_WORKER, counting, tmp_path / "worker.log") as worker:
        until_told(worker)
        count_keys(counting, range(100))
        until_folded(counting, 100)
        count_keys(counting, range(40), value=b"-")
        until_folded(counting, 140)
        worker.kill()
        assert restarted(worker).rows == 60
        worker.kill()
        shutil.rmtree(counting.worker.data_dir)
        assert restarted(worker).rows == 60


def test_a_source_that_was_created_again_is_counted_from_its_beginning(counting: Settings, tmp_path: Path):
    with process(COUNTING_WORKER, counting, tmp_path / "worker.log") as worker:
        until_told(worker)
        count_keys(counting, range(100))
        until_folded(counting, 100)
        worker.stop()
        run(delete_topic(counting.kafka, source(counting)))
        run(again(counting))
        count_keys(counting, range(100))
        restarted(worker)
        until_folded(counting, 100)  # with the topic, what was committed of it is gone
        worker.stop()
        assert restarted(worker).total == 200
        worker.kill()
        shutil.rmtree(counting.worker.data_dir)
        assert restarted(worker).total == 200


async def again(settings: Settings) -> None:
    """Create the missing topics."""
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()


def test_rows_of_a_changelog_that_is_gone_are_gone(counting: Settings, tmp_path: Path):
    with process(COUNTING_WORKER, counting, tmp_path / "worker.log") as worker:
        until_told(worker)
        count_keys(counting, range(100))
        until_folded(counting, 100)
        worker.stop()
        run(delete_topic(counting.kafka, changelog(counting)))
        told = restarted(worker)
        assert (told.rows, told.replayed) == (0, 0)


def test_a_checkpoint_beyond_the_changelogs_end_is_not_believed(counting: Settings, tmp_path: Path):
    with process(COUNTING_WORKER, counting, tmp_path / "worker.log") as worker:
        until_told(worker)
        count_keys(counting, range(100))
        until_folded(counting, 100)
        worker.stop()
        beyond(counting)
        told = restarted(worker)
        assert (told.rows, told.total) == (100, 100)
        assert told.replayed >= 100


def beyond(settings: Settings) -> None:
    """Move every stored checkpoint a million records on, with rows that the changelog never had."""
    folder = settings.worker.data_dir / "tables" / "counted"
    (incarnation,) = folder.iterdir()
    store = RocksStore(folder, RocksMemory(16 * 1024 * 1024), SystemClock(), max_age_s=3600)
    store.begin(incarnation.name)
    for partition in range(PARTITIONS):
        store.open(partition)
        row = msgspec.msgpack.encode((1, 10**6, -1, 77))
        store.write(partition, [(key_of(-partition), row)], 1_000_000)
    store.close()


def test_a_second_worker_in_the_same_folder_is_refused(counting: Settings, tmp_path: Path):
    other = changed(counting, worker={"port": free_port()})
    with process(COUNTING_WORKER, counting, tmp_path / "one.log") as one:
        until_told(one)
        with process(COUNTING_WORKER, other, tmp_path / "two.log") as two:
            assert two.running.wait(30) == 2
        assert f"{counting.worker.data_dir} is in use by another worker" in two.log.read_text()
