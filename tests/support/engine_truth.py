"""What the tool_latency table must say, counted anew from the topic, and what it says: on its changelog, over HTTP.

Nothing here uses the table's own code: rows are read as the MessagePack arrays that they are (tables/rows.py draws
them), windows are counted by `headrace.devkit.recount`, which shares nothing with `tables/`.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import asyncpg
import msgspec

from contracts.names import Topic, kafka_topic
from headrace.devkit.recount import Call, Expected, WindowKey, compare, recount
from runtime.clock import SystemClock
from runtime.settings import Settings
from runtime.tokens import mint
from streams.epochs import admitted
from streams.kafka_log import Cluster, Partition, Record
from tests.support.engine_fleet import Worker
from tests.support.engine_load import TENANTS

EVERYTHING = 10_000_000
CLOCK = SystemClock()
TABLE = "tool_latency"
KIND = "tl"
SHOWN = 10
WHOLE_S = 60.0
# No test runs longer.
BACK = timedelta(hours=1)


class Row(NamedTuple):
    """A row as its bytes say: positions, then the columns that the recount knows."""

    position: int
    announced: int
    calls: int
    errors: int
    sum_us: int


@dataclass
class Truth:
    """Everything in the topics once the workers have finished."""

    expected: dict[WindowKey, Expected]
    calls: int
    broken: int
    rows: dict[tuple[int, bytes], Row]


@asynccontextmanager
async def connected(settings: Settings):
    cluster = Cluster(settings.kafka)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


async def records_of(cluster: Cluster, topic: str) -> list[Record]:
    """All records of a topic that count, by partition."""
    count = (await cluster.topics()).get(topic, 0)
    tails = await asyncio.gather(*(cluster.read_tail(Partition(topic, n), EVERYTHING) for n in range(count)))
    return [record for tail in tails for record in admitted(tail)]


async def behind(cluster: Cluster, settings: Settings, topic: str) -> int:
    """How many records of a topic are not committed by the workers."""
    places = [Partition(topic, n) for n in range((await cluster.topics())[topic])]
    ends = await cluster.true_end_offsets(places)
    committed = await cluster.committed(settings.worker.group, places)
    return sum(end - committed.get(place, 0) for place, end in ends.items())


async def moves_on(cluster: Cluster, settings: Settings, timeout_s: float = 60.0) -> None:
    """Wait until somebody commits in every partition of the tools topic."""
    topic = kafka_topic(settings.prefix, Topic.TOOLS)
    places = [Partition(topic, n) for n in range((await cluster.topics())[topic])]
    ends = await cluster.true_end_offsets(places)
    async with asyncio.timeout(timeout_s):
        while True:
            committed = await cluster.committed(settings.worker.group, places)
            if all(committed.get(place, 0) >= end for place, end in ends.items()):
                return
            await asyncio.sleep(0.2)


def changelog(settings: Settings) -> str:
    """Name of the table's changelog topic."""
    return f"{settings.worker.group}-{TABLE}-changelog"


def newest_rows(records: Sequence[Record]) -> dict[tuple[int, bytes], bytes]:
    """The version of each row that has the highest position; of two with the same, the later one. By partition, key."""
    rows: dict[tuple[int, bytes], bytes] = {}
    for record in records:
        place, value = (record.partition, record.key or b""), record.value
        if msgspec.msgpack.decode(place[1])[0] != KIND:
            continue  # the state of an alert, in the same changelog
        if value is None:
            rows.pop(place, None)
        elif place not in rows or position(value) >= position(rows[place]):
            rows[place] = value
    return rows


def position(value: bytes) -> int:
    return int(msgspec.msgpack.decode(value)[1])


def key_of(raw: bytes) -> WindowKey:
    """The tenant, tool and window that a row's key names."""
    _kind, start_ms, tenant, tool, *_version = msgspec.msgpack.decode(raw)
    return WindowKey(tenant, tool, start_ms)


def row_of(raw: bytes) -> Row:
    """The columns of a row's value."""
    _format, position_, announced, count, errors, sum_us, *_rest = msgspec.msgpack.decode(raw)
    return Row(position_, announced, count, errors, sum_us)


def calls_of(records: Sequence[Record]) -> tuple[list[Call], int]:
    """The calls of the tools topic, and how many records are none."""
    calls, broken = [], 0
    for record in records:
        try:
            event: dict[str, Any] = json.loads(record.value or b"")
        except ValueError:
            broken += 1
            continue
        at_ms = round(datetime.fromisoformat(event["ts"]).timestamp() * 1000)
        error = event["status"] == "error"
        calls.append(Call(event["tenant_id"], event["tool"], at_ms, event["latency_ms"], error=error))
    return calls, broken


async def settled(settings: Settings, timeout_s: float = 60.0) -> Truth:
    """Wait until everything is committed and every window closed and announced; what the topics hold then."""
    topic = kafka_topic(settings.prefix, Topic.TOOLS)
    async with asyncio.timeout(timeout_s), connected(settings) as cluster:
        while True:
            waiting = await behind(cluster, settings, topic)
            rows = {k: row_of(v) for k, v in newest_rows(await records_of(cluster, changelog(settings))).items()}
            if waiting == 0 and all(row.announced >= row.position for row in rows.values()):
                break
            await asyncio.sleep(0.3)
        calls, broken = calls_of(await records_of(cluster, topic))
        return Truth(recount(calls, window_s(settings)), len(calls), broken, rows)


def window_s(settings: Settings) -> int:
    return settings.tool_latency.window_s


def wrong_rows(truth: Truth) -> dict[WindowKey, str]:
    """Windows whose row on the changelog differs from the recount."""
    found: dict[WindowKey, list[int]] = defaultdict(lambda: [0, 0, 0])
    for (_partition, raw), row in truth.rows.items():
        key = key_of(raw)
        for index, value in enumerate((row.calls, row.errors, row.sum_us)):
            found[key][index] += value
    wanted = {key: [e.count, e.errors, e.sum_us] for key, e in truth.expected.items()}
    return {
        key: f"changelog says {found.get(key)}, topic says {wanted.get(key)}"
        for key in found.keys() | wanted.keys()
        if found.get(key) != wanted.get(key)
    }


class NotWhole(Exception):  # noqa: N818 - a fact about an answer
    """A worker cannot tell everything now."""


def results(settings: Settings, port: int, tenant: str) -> list[dict[str, Any]]:
    """A tenant's results of experiments."""
    rows: list[dict[str, Any]] = page(settings, port, tenant, {"limit": "10000"}, "ab_results")["rows"]
    return rows


def page(settings: Settings, port: int, tenant: str, params: Mapping[str, str], table: str = TABLE) -> dict[str, Any]:
    """One page of a tenant's rows as one worker tells them, its own and those of the others."""
    channels = ("tools:*", "experiments:*")
    token = mint(settings.auth, CLOCK, tenant_id=tenant, channels=channels, subject="test", lifetime_s=600)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/tables/{table}/?{urllib.parse.urlencode(params)}",
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  our own loopback server
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise NotWhole(error.read()) from error
        raise
    if told["partial"]:
        raise NotWhole(told["missing"])
    return told


def view(settings: Settings, port: int, tenant: str) -> list[dict[str, Any]]:
    """All of a tenant's windows, once the worker can tell them: a rebalance may be under way."""
    now, ends_s = CLOCK.now(), CLOCK.monotonic_s() + WHOLE_S
    params = {"from": (now - BACK).isoformat(), "to": (now + BACK).isoformat(), "limit": "10000"}
    rows: list[dict[str, Any]] = []
    while True:
        try:
            told = page(settings, port, tenant, params)
        except NotWhole:
            if CLOCK.monotonic_s() > ends_s:
                raise
            time.sleep(0.2)
            continue
        rows += told["rows"]
        if not told["next"]:
            return rows
        params["after"] = told["next"]


async def wrong_views(
    settings: Settings, truth: Truth, workers: Sequence[Worker]
) -> dict[tuple[str, WindowKey], object]:
    """Windows that a worker tells wrongly."""
    wrong: dict[tuple[str, WindowKey], object] = {}
    for worker in workers:
        asked = [partial(view, settings, worker.port, tenant) for tenant in TENANTS]
        rows = [row for told in await asyncio.gather(*map(asyncio.to_thread, asked)) for row in told]
        wrong |= {(worker.log.stem, key): said for key, said in compare(truth.expected, rows, since_ms=0).items()}
    return wrong


async def wrong_messages(settings: Settings, truth: Truth) -> list[str]:
    """Closed windows that were never pushed in their last revision, and ids with two contents."""
    async with connected(settings) as cluster:
        pushed = await records_of(cluster, kafka_topic(settings.prefix, Topic.PUSH))
    bodies: dict[tuple[bytes | None, bytes], set[bytes | None]] = defaultdict(set)
    revisions: dict[WindowKey, set[int]] = defaultdict(set)
    for record in pushed:
        bodies[record.key, dict(record.headers)["pid"]].add(record.value)
        message = json.loads(record.value or b"")
        if message["type"] == "tool_latency_window":
            data = message["data"]
            start_ms = round(datetime.fromisoformat(data["window_start"]).timestamp() * 1000)
            revisions[WindowKey(data["tenant_id"], data["tool"], start_ms)].add(data["revision"])
    two = [f"{pid!r} has {len(same)} contents" for (_, pid), same in bodies.items() if len(same) > 1]
    last = {key_of(raw): row.position + 1 for (_partition, raw), row in truth.rows.items()}
    return two + [f"{key} revision {n} was never pushed" for key, n in last.items() if n not in revisions[key]]


async def buried(settings: Settings) -> int:
    """How many dead letters there are."""
    connection = await asyncpg.connect(settings.postgres.url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM headrace.dead_letter"))
    finally:
        await connection.close()


def shown(what: str, wrong: Mapping[Any, object] | Sequence[object]) -> str:
    """What is wrong, short enough to read; pytest's own text of a large comparison is empty."""
    lines = [f"{key}: {value}" for key, value in wrong.items()] if isinstance(wrong, Mapping) else list(map(str, wrong))
    return "\n".join([f"{what}: {len(lines)} are wrong", *lines[:SHOWN]])


async def check(settings: Settings, workers: Sequence[Worker]) -> Truth:
    """Hold everything that can be seen from outside against the recount."""
    await asyncio.gather(*(worker.ready() for worker in workers))
    truth = await settled(settings)
    assert truth.expected, "no call was counted: the test proved nothing"
    for what, wrong in (
        ("changelog", wrong_rows(truth)),
        ("views", await wrong_views(settings, truth, workers)),
        ("messages", await wrong_messages(settings, truth)),
    ):
        assert not wrong, shown(what, wrong)
    assert await buried(settings) == truth.broken
    return truth
