from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest
from prometheus_client import generate_latest

from contracts.errors import ServerMissing
from contracts.names import Stream, redis_stream
from runtime.clock import ManualClock, SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import relay as relay_process
from streams import relay_plan
from streams.outbox_table import SHARD
from streams.redis_log import RedisLog
from streams.relay import Relay
from streams.relay_metrics import RelayMetrics
from tests.support.aio import run
from tests.support.outbox import CLEAN, entries, fill, insert, payload, recount


class Bench:
    """One relay that is stepped by hand, a connection to look with, and a clock that stands still."""

    def __init__(self, settings: Settings, redis: RedisLog, connection: asyncpg.Connection) -> None:
        self.settings = settings
        self.redis = redis
        self.connection = connection
        self.clock = ManualClock(datetime.now(UTC))
        self.metrics = Metrics()
        self.health = Health(("relay",))
        self.relay = Relay(settings, redis, RelayMetrics(self.metrics), self.health, self.clock)

    async def drain(self) -> int:
        done = 0
        while step := await self.relay.step():
            done += step
        return done

    async def ids(self) -> list[int]:
        return [int(entry.fields["event_id"]) for entry in await entries(self.redis, self.settings.prefix)]

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"headrace_{name}", labels) or 0.0


@asynccontextmanager
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    redis = RedisLog(settings.redis, settings.prefix, client_name="test")
    connection = await asyncpg.connect(settings.postgres.url)
    made = Bench(settings, redis, connection)
    try:
        await made.relay.open()
        yield made
    finally:
        await made.relay.close()
        await connection.close()
        await redis.close()


def stepped(settings: Settings, body: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with bench(settings) as made:
            await body(made)

    run(main())


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110  # the other side is a server
            await asyncio.sleep(0.02)


def test_every_committed_row_becomes_one_entry_in_order_within_its_aggregate(settings: Settings):
    async def body(b: Bench) -> None:
        await fill(settings.postgres.url, 1200)
        assert await b.drain() == 1200
        assert await recount(settings.postgres.url, b.redis, settings.prefix) == CLEAN
        assert b.sample("outbox_relayed_total", result="ok") == 1200

    stepped(settings, body)


def test_the_payload_arrives_byte_for_byte(settings: Settings):
    text = payload("7")[:-1] + ' ,  "amount": 1.10, "amount": 1e2, "name": "caf\\u00e9 \\ud83d\\ude00 ü"}'

    async def body(b: Bench) -> None:
        await insert(b.connection, text, "7")
        await b.drain()
        (entry,) = await entries(b.redis, settings.prefix)
        assert entry.fields["payload"].decode() == text
        assert entry.fields["tenant_id"] == b"t1"
        assert entry.fields["dedupe_id"].startswith(b"ob-1-")

    stepped(settings, body)


def test_poison_is_buried_with_its_bytes_and_its_neighbours_go_on(settings: Settings):
    poison = [
        '{"event": "order_status", "version": "1.0", "x": "\\u0000"}',
        "[1, 2]",
        payload("1", pad="x" * 2_000_000),
    ]

    async def body(b: Bench) -> None:
        before = await insert(b.connection, payload())
        bad = [await insert(b.connection, text) for text in poison]
        after = await insert(b.connection, payload())
        assert await b.drain() == 5
        assert await b.ids() == [before, after]
        letters = await b.connection.fetch("SELECT * FROM headrace.dead_letter ORDER BY outbox_id")
        assert [letter["outbox_id"] for letter in letters] == bad
        assert [letter["payload"].decode() for letter in letters] == poison
        assert [letter["error_class"] for letter in letters] == ["BadText", "BadJson", "TooLarge"]
        assert b.sample("outbox_relayed_total", result="dead") == 3
        assert await b.connection.fetchval("SELECT count(*) FROM outbox WHERE processed IS NOT TRUE") == 0

    stepped(settings, body)


def test_a_departure_that_compat_mode_forgives_is_published_and_counted(settings: Settings):
    async def body(b: Bench) -> None:
        await insert(b.connection, payload(status="cancelled"))
        await b.drain()
        assert len(await b.ids()) == 1
        assert b'headrace_contract_deviations_total{deviation="' in generate_latest(b.metrics.registry)

    stepped(settings, body)


@asynccontextmanager
async def another_writer(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(settings.postgres.url)
    try:
        yield connection
    finally:
        await connection.close()


async def look(b: Bench, times: int = 4) -> None:
    """Polls far enough apart for the fresh lane to follow, if it may."""
    for _ in range(times):
        b.clock.advance(0.2)
        await b.drain()


def test_a_row_that_commits_late_is_found_by_the_next_poll(settings: Settings):
    async def body(b: Bench) -> None:
        async with another_writer(settings) as writer:
            open_transaction = writer.transaction()
            await open_transaction.start()
            late = await insert(writer, payload("late"), "late")
            early = await insert(b.connection, payload())
            await look(b)
            assert await b.ids() == [early]
            await open_transaction.commit()
        assert await b.relay.step() == 1
        assert await b.ids() == [early, late]

    stepped(settings, body)


def test_an_event_is_not_published_before_an_earlier_one_of_its_order_that_committed_late(settings: Settings):
    """The writer did all that is asked of it: the order's second event was begun after the first had committed."""

    async def body(b: Bench) -> None:
        async with another_writer(settings) as writer:
            open_transaction = writer.transaction()
            await open_transaction.start()
            first = await insert(writer, payload("x"), "x")
            other = await insert(b.connection, payload("y"), "y")
            await look(b)
            await open_transaction.commit()
            second = await insert(writer, payload("x", status="confirmed"), "x")
        await b.drain()
        assert await b.ids() == [other, first, second]

    stepped(settings, body)


def test_the_fresh_lane_leaves_what_is_settled_behind(settings: Settings):
    async def body(b: Bench) -> None:
        await fill(settings.postgres.url, 10)
        await look(b)
        scan = relay_plan.next_scan(b.relay._plan, b.clock.monotonic_s() - 9)
        assert scan[:2] == (relay_plan.Lane.FRESH, 10)

    stepped(settings, body)


def test_a_row_that_commits_after_the_hint_has_passed_it_is_found_by_the_sweep(settings: Settings):
    async def body(b: Bench) -> None:
        writer = await asyncpg.connect(settings.postgres.url)
        try:
            open_transaction = writer.transaction()
            await open_transaction.start()
            late = await insert(writer, payload("late"), "late")
            for _ in range(4):
                await insert(b.connection, payload())
                await b.drain()
                b.clock.advance(settings.relay.young_row_s + 1)
            await b.drain()
            assert await b.connection.fetchval("SELECT low_id FROM headrace.scan_hint") >= late
            await open_transaction.commit()
        finally:
            await writer.close()
        b.clock.advance(30)
        for _ in range(3):
            await b.relay.step()
        assert late in await b.ids()
        assert b.sample("outbox_late_rows_total", lane="sweep") == 1

    stepped(settings, body)


def test_ids_that_begin_again_after_a_truncate_are_published(settings: Settings):
    async def body(b: Bench) -> None:
        await fill(settings.postgres.url, 10)
        await b.drain()
        await b.connection.execute("TRUNCATE outbox RESTART IDENTITY")
        assert await b.drain() == 0
        assert await insert(b.connection, payload()) == 1
        assert await b.drain() == 1
        assert (await b.ids())[-1] == 1

    stepped(settings, body)


def test_a_batch_that_was_published_but_not_marked_is_not_published_again(settings: Settings):
    async def body(b: Bench) -> None:
        await fill(settings.postgres.url, 50)
        await b.drain()
        await b.connection.execute("UPDATE outbox SET processed = NULL WHERE id <= 20")
        b.clock.advance(1)
        await b.relay.step()
        await fill(settings.postgres.url, 1)
        b.clock.advance(1)
        await b.drain()
        assert len(await b.ids()) == 51
        assert b.sample("outbox_relayed_total", result="repeat") == 20

    stepped(settings, body)


def test_markers_expire_only_after_the_commit(settings: Settings):
    async def body(b: Bench) -> None:
        await insert(b.connection, payload())
        await b.drain()
        stream = redis_stream(settings.prefix, Stream.ORDERS)
        (entry,) = await entries(b.redis, settings.prefix)
        marker = f"{{{stream}}}:m:{entry.fields['dedupe_id'].decode()}"
        assert 0 < await b.redis.call("TTL", marker) <= settings.redis.marker_ttl_s

    stepped(settings, body)


def test_a_batch_is_bounded_in_bytes_but_never_empty(settings: Settings):
    small = settings.model_copy(update={"relay": settings.relay.model_copy(update={"batch_bytes": 65_536})})

    async def body(b: Bench) -> None:
        for _ in range(3):
            await insert(b.connection, payload(pad="x" * 60_000))
        await insert(b.connection, payload(pad="x" * 100_000))
        assert [await b.relay.step() for _ in range(5)] == [1, 1, 1, 1, 0]

    stepped(small, body)


def test_shards_that_another_relay_holds_are_left_to_it(settings: Settings):
    async def body(b: Bench) -> None:
        await insert(b.connection, payload("a"), "a")
        async with b.connection.transaction():
            await b.connection.fetch("SELECT shard FROM headrace.shard FOR UPDATE")
            assert await b.relay.step() == 0
        assert await b.relay.step() == 1

    stepped(settings, body)


def test_many_rows_in_shards_of_another_relay_do_not_hide_those_that_are_free(settings: Settings):
    sharing = settings.model_copy(update={"relay": settings.relay.model_copy(update={"shards": 32, "batch_rows": 5})})

    async def body(b: Bench) -> None:
        theirs = [await insert(b.connection, payload("theirs"), "theirs") for _ in range(30)]
        ours = [await insert(b.connection, payload(f"{n}"), f"{n}") for n in range(12)]
        shard = await b.connection.fetchval(f"SELECT {SHARD} FROM outbox o WHERE id = $1", theirs[0])  # noqa: S608
        free = await b.connection.fetch(f"SELECT id FROM outbox o WHERE id > 30 AND {SHARD} <> $1", shard)  # noqa: S608
        async with b.connection.transaction():
            await b.connection.execute("SELECT FROM headrace.shard WHERE shard = $1 FOR UPDATE", shard)
            for _ in range(8):
                await b.relay.step()
            assert sorted(await b.ids()) == [row["id"] for row in free]
        await b.drain()
        assert sorted(await b.ids()) == theirs + ours
        assert await recount(settings.postgres.url, b.redis, settings.prefix) == CLEAN

    stepped(sharing, body)


def test_three_relays_share_the_rows(settings: Settings):
    shared = settings.model_copy(
        update={"relay": settings.relay.model_copy(update={"shards": 22, "batch_rows": 20, "port": 0})}
    )

    async def main() -> None:
        stop = asyncio.Event()
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        await fill(settings.postgres.url, 600)
        relays = [
            asyncio.create_task(relay_process.run(shared, stop, Metrics(), Health(), SystemClock())) for _ in range(3)
        ]
        for _ in range(6):
            await fill(settings.postgres.url, 50)

        async def drained() -> bool:
            return await recount(settings.postgres.url, redis, settings.prefix) == CLEAN

        try:
            await eventually(drained)
            assert len(await entries(redis, settings.prefix)) == 900
        finally:
            stop.set()
            await asyncio.gather(*relays)
            await redis.close()

    run(main())


def test_the_relay_tells_its_lag_and_rings_wake_it(settings: Settings):
    # The next poll is ten seconds away when the row comes: what is published well before was rung for.
    idle = settings.model_copy(
        update={"relay": settings.relay.model_copy(update={"poll_s": 10.0, "idle_poll_s": 10.0, "port": 0})}
    )

    async def main() -> None:
        stop = asyncio.Event()
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        health = Health(("relay",))
        task = asyncio.create_task(relay_process.run(idle, stop, Metrics(), health, SystemClock()))

        async def told() -> bool:
            return "relay" in await redis.read_lag() and health.ready

        async def published() -> bool:
            await redis.ring("orders")
            return bool(await entries(redis, settings.prefix))

        try:
            await eventually(told)
            await fill(settings.postgres.url, 1)
            await eventually(published, timeout_s=6.0)
        finally:
            stop.set()
            await asyncio.wait_for(task, 9.0)
            await redis.close()

    run(main())


def test_a_relay_without_its_schema_says_what_to_do(settings: Settings):
    async def main() -> None:
        connection = await asyncpg.connect(settings.postgres.url)
        await connection.execute("DROP SCHEMA headrace CASCADE")
        await connection.close()
        with pytest.raises(ServerMissing, match="headrace migrate"):
            await relay_process.run(settings, asyncio.Event(), Metrics(), Health(), SystemClock())

    run(main())
