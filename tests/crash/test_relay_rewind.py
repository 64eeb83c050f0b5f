"""Redis loses entries that were published and marked: the relay notices, and publishes them again, in order, once."""

from __future__ import annotations

import asyncio
import shutil
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
from tests.support.aio import run
from tests.support.outbox import CLEAN, entries, fill, recount


class Stand:
    """A Redis of the test's own, relays, and a look at what they did."""

    def __init__(self, settings: Settings, servers: embedded.Servers, folder: Path) -> None:
        redis = settings.redis.model_copy(update={"url": servers.url("redis"), "command_timeout_s": 0.9})
        relaying = settings.relay.model_copy(update={"port": 0, "shards": 32, "batch_rows": 50})
        self.settings = settings.model_copy(update={"redis": redis, "relay": relaying})
        self.servers = servers
        self.folder = folder
        self.metrics: list[Metrics] = []
        self.redis = RedisLog(redis, settings.prefix, client_name="test")

    @asynccontextmanager
    async def relays(self, count: int = 2) -> AsyncIterator[None]:
        stop = asyncio.Event()
        self.metrics = [Metrics() for _ in range(count)]
        tasks = [
            asyncio.create_task(relay.run(self.settings, stop, metrics, Health(("relay",)), SystemClock()))
            for metrics in self.metrics
        ]
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)

    async def fill(self, rows: int) -> None:
        await fill(self.settings.postgres.url, rows)

    async def restart(self) -> None:
        """Killed, and back on the same port with its last snapshot, if it made one."""
        child = self.servers.children["redis"]
        child.process.kill()
        child.process.wait(10)
        port = urlsplit(self.servers.url("redis")).port
        assert port is not None
        self.servers.children["redis"] = await embedded.STARTERS["redis", "embedded"](self.folder / "redis", port)

    async def clean(self, rows: int) -> bool:
        """Every row is in Redis once, in order, and there are so many."""
        found = await recount(self.settings.postgres.url, self.redis, self.settings.prefix)
        return found == CLEAN and len(await entries(self.redis, self.settings.prefix)) == rows

    async def rewinds(self) -> int:
        connection = await asyncpg.connect(self.settings.postgres.url)
        try:
            return int(await connection.fetchval("SELECT rewinds FROM headrace.redis_server"))
        finally:
            await connection.close()

    def repeats(self) -> float:
        name = "headrace_outbox_relayed_total"
        return sum(m.registry.get_sample_value(name, {"result": "repeat"}) or 0.0 for m in self.metrics)


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110  # the other side is a server
            await asyncio.sleep(0.05)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="headrace-rewind-"))
    yield made
    shutil.rmtree(made)


def stood(settings: Settings, folder: Path, body: Callable[[Stand], Awaitable[None]]) -> None:
    async def main() -> None:
        servers = await embedded.start(folder, {"redis": "embedded"})
        stand = Stand(settings, servers, folder)
        try:
            await body(stand)
        finally:
            await stand.redis.close()
            await servers.stop()

    run(main(), 90)


def test_what_redis_lost_in_a_crash_is_published_again_and_what_it_kept_is_not_doubled(
    settings: Settings, folder: Path
):
    async def body(stand: Stand) -> None:
        async with stand.relays():
            await stand.fill(300)
            await eventually(lambda: stand.clean(300))
            await stand.redis.call("SAVE")
            await stand.fill(300)
            await eventually(lambda: stand.clean(600))
            await stand.restart()
            await stand.fill(100)
            await eventually(lambda: stand.clean(700))
            assert await stand.rewinds() == 1
            assert stand.repeats() > 0, "rows of the last two seconds, which Redis still had"

    stood(settings, folder, body)


def test_an_emptied_redis_gets_back_what_no_mirror_has_taken(settings: Settings, folder: Path):
    async def body(stand: Stand) -> None:
        async with stand.relays():
            await stand.fill(300)
            await eventually(lambda: stand.clean(300))
            await asyncio.sleep(3.0)
            await stand.fill(50)
            await eventually(lambda: stand.clean(350))
            await stand.restart()
            await eventually(lambda: stand.clean(350))

    stood(settings, folder, body)


def test_a_redis_that_is_exchanged_while_no_relay_runs_is_noticed_by_the_next_one(settings: Settings, folder: Path):
    async def body(stand: Stand) -> None:
        async with stand.relays():
            await stand.fill(200)
            await eventually(lambda: stand.clean(200))
        await stand.restart()
        await stand.fill(200)
        async with stand.relays(1):
            await eventually(lambda: stand.clean(400))

    stood(settings, folder, body)


def test_streams_that_are_flushed_under_a_running_server_come_back(settings: Settings, folder: Path):
    async def body(stand: Stand) -> None:
        async with stand.relays():
            await stand.fill(200)
            await eventually(lambda: stand.clean(200))
            await asyncio.sleep(1.2)
            await stand.redis.call("FLUSHALL")
            await eventually(lambda: stand.clean(200))
            await stand.fill(100)
            await eventually(lambda: stand.clean(300))

    stood(settings, folder, body)


def test_a_redis_that_is_killed_again_and_again_under_load_loses_doubles_and_reorders_nothing(
    settings: Settings, folder: Path
):
    async def body(stand: Stand) -> None:
        async with stand.relays():
            for _ in range(4):
                await stand.fill(150)
                await asyncio.sleep(0.3)
                await stand.redis.call("SAVE")
                await stand.fill(150)
                await asyncio.sleep(0.1)
                await stand.restart()
            await eventually(lambda: stand.clean(1200), 60)

    stood(settings, folder, body)


def test_with_the_gate_no_row_is_marked_before_redis_has_it_on_its_disk(settings: Settings, folder: Path):
    async def body(stand: Stand) -> None:
        gated = stand.settings.relay.model_copy(update={"wait_disk_ms": 400})
        stand.settings = stand.settings.model_copy(update={"relay": gated})
        async with stand.relays(1):
            await stand.fill(60)
            await eventually(lambda: some(stand))
            await asyncio.sleep(1.0)
            assert await unprocessed(stand) == 60, "this Redis keeps nothing on disk"
            await stand.redis.call("CONFIG", "SET", "appendonly", "yes")
            await eventually(lambda: stand.clean(60))

    stood(settings, folder, body)


async def some(stand: Stand) -> bool:
    return bool(await entries(stand.redis, stand.settings.prefix))


async def unprocessed(stand: Stand) -> int:
    return (await recount(stand.settings.postgres.url, stand.redis, stand.settings.prefix)).unprocessed
