"""A server goes away and comes back: rows wait where they are, and nothing is counted against them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from headrace import embedded
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import relay
from streams.redis_log import RedisLog
from tests.support import databases
from tests.support.aio import run
from tests.support.outbox import CLEAN, entries, fill, recount


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account PostgreSQL runs as can reach."""
    made = Path(tempfile.mkdtemp(prefix="headrace-outage-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Health]:
    stop = asyncio.Event()
    health = Health(("relay",))
    task = asyncio.create_task(relay.run(settings, stop, Metrics(), health, SystemClock()))
    try:
        yield health
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


def kill(servers: embedded.Servers, kind: embedded.Kind) -> None:
    servers.children[kind].process.kill()
    servers.children[kind].process.wait(10)


async def start_again(servers: embedded.Servers, kind: embedded.Kind, folder: Path) -> None:
    """On the same port, with what it left on disk."""
    port = urlsplit(servers.url(kind)).port
    assert port is not None
    servers.children[kind] = await embedded.STARTERS[kind, "embedded"](folder / kind, port)


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110  # the other side is a server
            await asyncio.sleep(0.05)


async def idle_transactions(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE application_name = 'headrace-relay' AND xact_start IS NOT NULL"
            )
        )
    finally:
        await connection.close()


def with_redis(settings: Settings, url: str) -> Settings:
    quick = settings.redis.model_copy(update={"url": url, "command_timeout_s": 0.5})
    return settings.model_copy(update={"redis": quick, "relay": settings.relay.model_copy(update={"port": 0})})


def test_a_frozen_redis_costs_no_row_and_no_retry(settings: Settings, folder: Path):
    async def main() -> None:
        servers = await embedded.start(folder, {"redis": "embedded"})
        mine = with_redis(settings, servers.url("redis"))
        redis = RedisLog(mine.redis, mine.prefix, client_name="test")
        try:
            async with running(mine) as health:
                await fill(mine.postgres.url, 100)
                await eventually(lambda: clean(mine, redis))
                os.kill(servers.pids["redis"], signal.SIGSTOP)
                await fill(mine.postgres.url, 100)
                await eventually(lambda: said(lambda: not health.ready))
                await asyncio.sleep(1.5)
                assert await idle_transactions(mine.postgres.url) == 0
                os.kill(servers.pids["redis"], signal.SIGCONT)
                await eventually(lambda: clean(mine, redis))
                await eventually(lambda: said(lambda: health.ready))
            assert len(await entries(redis, mine.prefix)) == 200
            assert await untouched(mine.postgres.url)
        finally:
            await redis.close()
            await servers.stop()

    run(main(), 60)


def test_a_redis_that_was_killed_gets_the_waiting_rows_when_it_is_back(settings: Settings, folder: Path):
    async def main() -> None:
        servers = await embedded.start(folder, {"redis": "embedded"})
        mine = with_redis(settings, servers.url("redis"))
        redis = RedisLog(mine.redis, mine.prefix, client_name="test")
        try:
            async with running(mine) as health:
                await eventually(lambda: said(lambda: health.ready))
                kill(servers, "redis")
                await fill(mine.postgres.url, 300)
                await eventually(lambda: said(lambda: not health.ready))
                await start_again(servers, "redis", folder)
                await eventually(lambda: clean(mine, redis))
            assert len(await entries(redis, mine.prefix)) == 300
            assert await untouched(mine.postgres.url)
        finally:
            await redis.close()
            await servers.stop()

    run(main(), 60)


def test_a_postgres_that_was_killed_is_waited_for_and_nothing_is_published_twice(
    settings: Settings, folder: Path, redis_url: str
):
    async def main() -> None:
        servers = await embedded.start(folder, {"postgres": "embedded"})
        url = await databases.create(servers.url("postgres"), settings.prefix)
        database = settings.postgres.model_copy(update={"url": url})
        mine = with_redis(settings, redis_url).model_copy(update={"postgres": database})
        redis = RedisLog(mine.redis, mine.prefix, client_name="test")
        try:
            async with running(mine) as health:
                await fill(url, 300)
                await eventually(lambda: some(redis, mine.prefix))
                kill(servers, "postgres")
                await eventually(lambda: said(lambda: not health.ready))
                await start_again(servers, "postgres", folder)
                await fill(url, 100)
                await eventually(lambda: clean(mine, redis))
            assert len(await entries(redis, mine.prefix)) == 400
        finally:
            await redis.close()
            await servers.stop()

    run(main(), 90)


async def said(condition: Callable[[], bool]) -> bool:
    return condition()


async def some(redis: RedisLog, prefix: str) -> bool:
    return bool(await entries(redis, prefix))


async def clean(settings: Settings, redis: RedisLog) -> bool:
    return await recount(settings.postgres.url, redis, settings.prefix) == CLEAN


async def untouched(url: str) -> bool:
    """Whether no row carries a trace of the outage: no retry counted, no letter buried."""
    connection = await asyncpg.connect(url)
    try:
        retried = await connection.fetchval("SELECT count(*) FROM outbox WHERE retry_count > 0")
        buried = await connection.fetchval("SELECT count(*) FROM headrace.dead_letter")
    finally:
        await connection.close()
    return bool(retried == buried == 0)
