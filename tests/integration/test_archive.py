"""Topics to files and back: every offset once, whatever was killed, and a replay that reads both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts.errors import ArchiveError
from contracts.names import Topic, kafka_topic
from runtime.clock import SystemClock
from runtime.settings import Settings
from streams.archive import Archive, ArchivedFile
from streams.archiving import Copied, Copying, copy
from streams.kafka_log import Outgoing, Partition
from streams.kafka_producer import Producer
from streams.log_range import LogRange, Span
from tests.support.aio import run
from tests.support.processes import environment_of, process
from tests.support.replaying import TENANTS, call, cluster_of, moment, prepare, replay, report_of, send, worker_settings

NOW_MS = int(1000 * SystemClock().wall_s())
DAY_MS = 86_400_000
T0 = (NOW_MS - 3_600_000) // 10_000 * 10_000
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def at(settings: Settings) -> Settings:
    made = worker_settings(settings)
    prepare(made)
    return made


def archive(settings: Settings, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", "archive", "--dir", str(folder), *arguments],
        env=environment_of(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder.parent,
    )


Row = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]


async def in_topic(settings: Settings, topic: str) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    async with cluster_of(settings) as cluster:
        for number in range(settings.kafka.partitions):
            records = await cluster.read_tail(Partition(topic, number), 1_000_000)
            found[number] = [(r.offset, r.timestamp_ms, r.key, r.value, tuple(r.headers)) for r in records]
    return found


def in_archive(settings: Settings, folder: Path, topic: str) -> dict[int, list[Row]]:
    made, found = Archive(folder), dict[int, list[Row]]()
    for number in range(settings.kafka.partitions):
        found[number] = [
            (r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for file in made.files(Partition(topic, number))
            for chunk in made.read(file, 0, 1 << 40)
            for r in chunk
        ]
    return found


async def put(settings: Settings, topic: str, count: int, stamp_ms: int) -> None:
    headers = (("tenant", b"acme"), ("ce_id", b"ob-1"))
    producer = Producer(settings.kafka)
    await producer.start()
    await producer.send_all(
        [Outgoing(topic, b"k%d" % n, b'{"n": %d}' % n, headers[: n % 3], stamp_ms + n) for n in range(count)]
    )
    await producer.stop()


def test_a_topic_comes_back_as_it_was_and_later_runs_add_what_is_new(at: Settings, tmp_path: Path):
    topic, folder = kafka_topic(at.prefix, Topic.TOOLS), tmp_path / "archive"
    run(put(at, topic, 500, NOW_MS - 2 * DAY_MS))
    run(put(at, topic, 500, NOW_MS))
    done = archive(at, folder, "--topic", "tools", "--until", "now-1d")
    assert done.returncode == 0, done.stderr
    assert "500 records" in done.stdout
    assert archive(at, folder).returncode == 0
    assert in_archive(at, folder, topic) == run(in_topic(at, topic))
    assert archive(at, folder).returncode == 0
    run(put(at, topic, 10, NOW_MS))
    assert archive(at, folder).returncode == 0
    assert in_archive(at, folder, topic) == run(in_topic(at, topic))
    assert len(list(folder.glob(f"{topic}/date=*"))) == 2


def test_killed_at_any_moment_it_goes_on_without_a_gap_or_a_repeat(at: Settings, tmp_path: Path):
    topic, folder = kafka_topic(at.prefix, Topic.TOOLS), tmp_path / "archive"
    for _part in range(5):
        run(put(at, topic, 4000, NOW_MS))
    command = ("-m", "headrace", "archive", "--dir", str(folder), "--topic", "tools")
    for pause_s in (0.9, 1.1, 1.3, 1.5):
        with process(command, at, tmp_path / "archive.log") as running:
            try:
                running.running.wait(pause_s)
            except subprocess.TimeoutExpired:
                running.kill()
    assert archive(at, folder, "--topic", "tools").returncode == 0
    assert in_archive(at, folder, topic) == run(in_topic(at, topic))
    assert not list(folder.rglob("*.partial"))


def test_two_writers_never_share_a_folder(at: Settings, tmp_path: Path):
    from headrace.commands.archive import writing_alone

    with writing_alone(tmp_path / "archive"):
        done = archive(at, tmp_path / "archive")
    assert done.returncode == 2
    assert "is in use by another headrace command" in done.stderr


async def copied(settings: Settings, made: Archive, place: Partition, *, begin: int = 0, **how: bool | str) -> Copied:
    log = LogRange(settings.kafka)
    await log.start()
    try:
        span = (await log.spans([place]))[place]
        wanted = Copying(str(how.get("epoch", "id1")), None, bool(how.get("skip_lost")))
        return await copy(log, made, place, Span(max(begin, span.begin), span.end), wanted)
    finally:
        await log.stop()


def test_offsets_that_retention_removed_first_are_named_and_noted(at: Settings, tmp_path: Path):
    topic, made = kafka_topic(at.prefix, Topic.TOOLS), Archive(tmp_path)
    run(put(at, topic, 200, NOW_MS))
    place = Partition(topic, max(run(in_topic(at, topic)).items(), key=lambda pair: len(pair[1]))[0])
    first = run(copied(at, made, place))
    run(put(at, topic, 200, NOW_MS))
    begin = first.next_offset + 7
    with pytest.raises(ArchiveError, match=f"up to offset {first.next_offset}, but the topic begins at {begin}"):
        run(copied(at, made, place, begin=begin))
    assert run(copied(at, made, place, begin=begin, skip_lost=True)).lost == 7
    files: list[ArchivedFile] = made.files(place)
    assert [(file.first, file.lost) for file in files] == [(0, 0), (begin, 7)]


def test_a_topic_that_was_made_anew_is_not_added_to_an_archive_of_the_old_one(at: Settings, tmp_path: Path):
    topic, made = kafka_topic(at.prefix, Topic.TOOLS), Archive(tmp_path)
    run(put(at, topic, 200, NOW_MS))
    place = Partition(topic, max(run(in_topic(at, topic)).items(), key=lambda pair: len(pair[1]))[0])
    first = run(copied(at, made, place))
    with pytest.raises(ArchiveError, match="its offsets began anew"):
        run(copied(at, made, place, epoch="id2"))
    (file,) = made.files(place)
    other = Partition(kafka_topic(at.prefix, Topic.VOICE), place.number)
    (tmp_path / other.topic).mkdir()
    file.path.parent.rename(tmp_path / other.topic / file.path.parent.name)
    run(put(at, other.topic, first.next_offset * 8, NOW_MS + 1))
    with pytest.raises(ArchiveError, match=r"which is not what .* holds"):
        run(copied(at, made, other))


def test_a_replay_reads_the_archive_and_then_the_topic_and_counts_no_offset_twice(at: Settings, tmp_path: Path):
    folder, state = tmp_path / "archive", tmp_path / "state"
    calls = [call(number, T0 + 100 * number) for number in range(2000)]
    run(send(at, calls[:1200], NOW_MS))
    assert archive(at, folder, "--topic", "tools").returncode == 0
    run(send(at, calls[1200:], NOW_MS))
    span = ("--from", moment(T0), "--to", moment(T0 + 300_000), "--dry-run")
    plain = report_of(replay(at, state, *span))
    both = report_of(replay(at, state, *span, "--from-archive", str(folder)))
    assert both == plain
    assert sum(change["after"]["count"] for change in both["changes"]) == 2000
    one = report_of(replay(at, state, *span, "--from-archive", str(folder), "--tenant", TENANTS[0]))
    assert {change["tenant_id"] for change in one["changes"]} == {TENANTS[0]}


async def cut(settings: Settings, topic: str) -> None:
    """Remove all that the topic holds, as retention would."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap)
    await client.start()
    try:
        ends = {
            TopicPartition(topic, number): RecordsToDelete(before_offset=len(records))
            for number, records in (await in_topic(settings, topic)).items()
        }
        await client.delete_records(ends)
    finally:
        await client.close()


@pytest.mark.real
def test_a_range_that_retention_has_cut_is_refused_and_the_archive_has_it(at: Settings, tmp_path: Path):
    """Only on Apache Kafka: the embedded broker removes nothing."""
    folder, state = tmp_path / "archive", tmp_path / "state"
    calls = [call(number, T0 + 100 * number) for number in range(2000)]
    span = ("--from", moment(T0), "--to", moment(T0 + 300_000), "--dry-run")
    run(send(at, calls[:1000], T0 + 100_000))
    assert archive(at, folder, "--topic", "tools").returncode == 0
    whole = report_of(replay(at, state, *span))
    run(cut(at, kafka_topic(at.prefix, Topic.TOOLS)))
    run(send(at, calls[1000:], NOW_MS))
    refused = replay(at, state, *span)
    assert refused.returncode == 1
    assert "has been cut by retention: complete windows exist from" in refused.stderr
    both = report_of(replay(at, state, *span, "--from-archive", str(folder)))
    assert sum(change["after"]["count"] for change in whole["changes"]) == 1000
    assert sum(change["after"]["count"] for change in both["changes"]) == 2000
