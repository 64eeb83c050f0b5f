"""`python -m bench relay`: what a relay drains, how soon it publishes, and what a paused tenant costs the others.

Real processes on an embedded PostgreSQL and Valkey (or those given), all on the same cores:

    drain             rows that were committed at once, until the last is in Redis: one relay, then two that share
    latency           from the return of a COMMIT to the entry at a blocking reader, at a steady rate: with the doorbell
                      that `streams.outbox` rings, and without, when only polling finds the rows
    beside a pause    the same for tenant B while tenant A is paused with so many rows on hold
    beside a resume   the same for tenant B while A's rows go out

Every run ends with a recount: each row once in Redis, in order within its aggregate.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.resources
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bench import report
from bench.child import Child
from bench.engine import say
from bench.latency import Line, line_of
from contracts.errors import ServerMissing
from contracts.names import Stream, redis_stream
from headrace import embedded
from headrace.devkit import http
from headrace.servers.probes import free_port
from runtime.logs import configure
from runtime.settings import LogSettings, PostgresSettings, RedisSettings, Settings
from streams import migrate, postgres, tenants
from streams.postgres import Connection
from streams.redis_log import START, RedisLog

COMMAND = [sys.executable, "-m", "headrace", "relay"]
AGGREGATES = 2_000
WARM_UP_S = 2.0
POLL_S = 0.01
LIMIT_S = 300.0
PAUSED, OTHER = "a", "b"
FILL = """
INSERT INTO outbox (aggregate_id, aggregate_type, event_type, payload)
SELECT $3 || (i * 7919 % $2)::text, 'order', 'order_status', json_build_object(
    'event', 'order_status', 'version', '1.0', 'tenant_id', $3::text, 'order_id', $3 || (i * 7919 % $2)::text,
    'status', 'created', 'ts', '2026-01-02T03:04:05Z', 'seq', i)
FROM generate_series(1, $1) i"""
INSERT = """
INSERT INTO outbox (aggregate_id, aggregate_type, event_type, payload)
SELECT $1::text, 'order', 'order_status', json_build_object('event', 'order_status', 'version', '1.0',
    'tenant_id', $2::text, 'order_id', $1::text, 'status', 'created', 'ts', '2026-01-02T03:04:05Z') RETURNING id"""


@dataclass
class Place:
    """A fresh database and a prefix of its own, for one run."""

    settings: Settings
    connection: Connection
    redis: RedisLog
    folder: Path
    children: list[Child] = field(default_factory=list)

    @property
    def stream(self) -> str:
        """Where all rows of the bench go."""
        return redis_stream(self.settings.prefix, Stream.ORDERS)

    async def length(self) -> int:
        """Entries so far."""
        return (await self.redis.stream_info(self.stream)).length

    async def fill(self, rows: int, tenant: str = OTHER) -> None:
        """Commit rows at once."""
        await self.connection.execute(FILL, rows, AGGREGATES, tenant)

    async def held(self) -> int:
        """Rows on hold."""
        return int(await self.connection.fetchval("SELECT count(*) FROM headrace.hold"))

    async def rows_of(self, tenant: str) -> int:
        """How many rows of a tenant were committed."""
        return int(
            await self.connection.fetchval("SELECT count(*) FROM outbox WHERE aggregate_id LIKE $1 || '%'", tenant)
        )

    async def right(self) -> bool:
        """Whether each row is there once, in order within its aggregate."""
        rows = {row["id"] for row in await self.connection.fetch("SELECT id FROM outbox")}
        highest: dict[bytes, int] = {}
        found: set[int] = set()
        after = START
        while entries := await self.redis.read_after(self.stream, after, 5_000):
            for entry in entries:
                row_id, order = int(entry.fields["event_id"]), entry.fields["aggregate_id"]
                if row_id in found or row_id < highest.get(order, 0):
                    return False
                highest[order] = row_id
                found.add(row_id)
            after = entries[-1].id
        return found == rows


@dataclass(frozen=True)
class Bench:
    """The servers of all runs."""

    postgres_url: str
    redis_url: str
    folder: Path

    @asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[Place]:
        """A place without relays; those that are started are gone at the end."""
        url = await self._database(f"{name.replace('-', '_')}_{os.getpid()}")
        settings = Settings(
            prefix=f"{name}-{os.getpid()}", postgres=PostgresSettings(url=url), redis=RedisSettings(url=self.redis_url)
        )
        await migrate.migrate(settings.postgres)
        redis = RedisLog(settings.redis, settings.prefix, client_name="bench")
        connection = await postgres.connect(settings.postgres, name="bench")
        made = Place(settings, connection, redis, self.folder / name)
        try:
            yield made
        finally:
            for child in made.children:
                child.kill()
            await redis.call("DEL", made.stream)
            await redis.close()
            await postgres.close(connection)

    async def _database(self, name: str) -> str:
        admin = await postgres.connect(PostgresSettings(url=self.postgres_url), name="bench")
        await admin.execute(f'CREATE DATABASE "{name}"')
        await postgres.close(admin)
        url = urlunsplit(urlsplit(self.postgres_url)._replace(path=f"/{name}"))
        connection = await postgres.connect(PostgresSettings(url=url), name="bench")
        await connection.execute(importlib.resources.files("streams").joinpath("outbox.sql").read_text())
        await postgres.close(connection)
        return url


async def start_relays(place: Place, count: int) -> None:
    """Start relays that share the shards, and wait until each is ready."""
    for number in range(count):
        port = free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            "HEADRACE_PREFIX": place.settings.prefix,
            "HEADRACE_POSTGRES__URL": place.settings.postgres.url,
            "HEADRACE_REDIS__URL": place.settings.redis.url,
            "HEADRACE_RELAY__SHARDS": str(64 // count),
            "HEADRACE_RELAY__PORT": str(port),
            "HEADRACE_LOG__LEVEL": "warning",
        }
        child = Child(COMMAND, environment, place.folder / f"relay-{number}")
        place.children.append(child)
        async with asyncio.timeout(30), http.session() as client:
            while not await http.is_ready(client, f"http://127.0.0.1:{port}/readyz"):
                child.check()
                await asyncio.sleep(POLL_S)


async def drain(bench: Bench, rows: int, relays: int) -> Line:
    """How fast waiting rows go out."""
    say(f"relay: drain of {rows:,} rows by {relays}")
    async with bench.place(f"drain-{relays}") as place:
        await start_relays(place, relays)
        await place.fill(rows)
        begin_s = time.monotonic()
        before = await place.length()
        async with asyncio.timeout(LIMIT_S):
            while await place.length() < rows:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
        took_s = time.monotonic() - begin_s
        rate = (rows - before) / took_s
        name = f"drain, {relays} relay" + ("s" if relays > 1 else "")
        return {"name": name, "rows": rows, "rows_per_s": round(rate), "answer_ok": await place.right()}


async def latency(bench: Bench, rate: float, seconds: float, *, bell: bool) -> Line:
    """How soon a committed row is in Redis."""
    name = "with the doorbell" if bell else "by polling alone"
    say(f"relay: latency {name}")
    async with bench.place("bell" if bell else "poll") as place:
        await start_relays(place, 1)
        delays_s = await fed(place, rate, seconds, bell=bell)
        return line_of(f"commit to Redis, {name}", rate, delays_s, answer_ok=await place.right())


async def beside_a_pause(bench: Bench, rows: int, rate: float, seconds: float) -> list[Line]:
    """How soon tenant B's rows are in Redis while A is paused with `rows` on hold, and while they go out."""
    say(f"relay: latency beside a paused tenant with {rows:,} rows")
    async with bench.place("pause") as place:
        await tenants.pause(place.connection, PAUSED, why="bench", by="bench")
        await start_relays(place, 1)
        await place.fill(rows, PAUSED)
        async with asyncio.timeout(LIMIT_S):
            while await place.held() < rows:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
        paused_s = await fed(place, rate, seconds, bell=True)
        none_passed = await place.length() == await place.rows_of(OTHER)
        await tenants.resume(place.connection, PAUSED, why="bench", by="bench")
        resumed_s = await fed(place, rate, 5.0, bell=True, warm_up_s=0.0)
        expected = rows + await place.rows_of(OTHER)
        async with asyncio.timeout(LIMIT_S):
            while await place.length() < expected:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
        right = none_passed and await place.right()
    name = f"tenant B, A paused with {rows:,} rows"
    return [
        line_of(name, rate, paused_s, answer_ok=right),
        line_of("tenant B, A's rows going out", rate, resumed_s, answer_ok=right),
    ]


async def fed(place: Place, rate: float, seconds: float, *, bell: bool, warm_up_s: float = WARM_UP_S) -> list[float]:
    """Commit one row of tenant B after another; seconds from each commit to its entry, infinite when it never came."""
    begin = (await place.redis.stream_info(place.stream)).last_id
    arrivals: dict[int, float] = {}
    reader = asyncio.create_task(_read(place, begin, arrivals))
    committed: dict[int, float] = {}
    begin_s = time.monotonic()
    count = round(rate * (warm_up_s + seconds))
    for number in range(count):
        await asyncio.sleep(begin_s + number / rate - time.monotonic())
        async with place.connection.transaction():
            row_id = await place.connection.fetchval(INSERT, f"{OTHER}{number % AGGREGATES}", OTHER)
        committed[row_id] = time.monotonic()
        if bell:
            await place.redis.ring(Stream.ORDERS.value)
    await asyncio.sleep(1.0)
    reader.cancel()
    warm = [(row_id, at_s) for row_id, at_s in committed.items() if at_s >= begin_s + warm_up_s]
    return [arrivals.get(row_id, math.inf) - at_s for row_id, at_s in warm]


async def _read(place: Place, after: str, arrivals: dict[int, float]) -> None:
    redis = RedisLog(place.settings.redis, place.settings.prefix, client_name="bench-reader")
    try:
        while True:
            entries = await redis.read_after(place.stream, after, 1_000, block_s=0.5)
            now_s = time.monotonic()
            for entry in entries:
                arrivals[int(entry.fields["event_id"])] = now_s
                after = entry.id
    finally:
        await redis.close()


async def measured(options: argparse.Namespace) -> tuple[list[Line], list[Line]]:
    """The lines of the drain, and those of latencies."""
    async with AsyncExitStack() as stack:
        folder = _folder()
        servers = await embedded.start(folder / "servers", {"postgres": "embedded", "redis": "embedded"})
        stack.push_async_callback(servers.stop)
        bench = Bench(servers.url("postgres"), servers.url("redis"), folder)
        drains = [await drain(bench, options.rows, relays) for relays in (1, 2)]
        for line in drains:
            line["x_one_relay"] = round(_rate(line) / _rate(drains[0]), 2)
        latencies = [await latency(bench, options.rate, options.seconds, bell=bell) for bell in (True, False)]
        latencies += await beside_a_pause(bench, options.rows, options.rate, options.seconds)
    if all(line["answer_ok"] for line in drains + latencies):
        shutil.rmtree(folder)
    return drains, latencies


def _rate(line: Line) -> int:
    rate = line["rows_per_s"]
    return rate if isinstance(rate, int) else 0


def _folder() -> Path:
    # Not below .bench/: PostgreSQL runs under an account of its own when this is started as root.
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-relay-"))
    folder.chmod(0o711)
    return folder


def main() -> int:
    """0 when every answer was right."""
    parser = argparse.ArgumentParser(prog="bench relay", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the drain and of the paused tenant, 100,000")
    parser.add_argument("--rate", type=float, default=200.0, help="rows a second of the latency runs, 200")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each of them, after two seconds; 20")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    configure(LogSettings(level="warning"), process="bench")
    try:
        drains, latencies = asyncio.run(measured(options))
    except ServerMissing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3
    if options.json:
        print(report.as_json(drains + latencies))
    report.print_lines("a relay's drain", drains, ["relays, PostgreSQL and Redis share all cores"])
    report.print_lines("from a row's COMMIT to its entry", latencies, [f"{options.rate:,.0f} rows/s"])
    return 0 if all(line["answer_ok"] for line in drains + latencies) else 1


if __name__ == "__main__":
    raise SystemExit(main())
