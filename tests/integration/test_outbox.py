from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import pytest

from contracts.codec import decode
from contracts.errors import ContractError, OutOfRange
from contracts.outbox import OutboxRow
from runtime.clock import ManualClock
from runtime.settings import Settings
from streams.outbox import OutboxWriter, append, lock_aggregate
from streams.redis_log import RedisLog
from tests.support.aio import run
from tests.support.outbox import payload

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT = decode(payload("7"), mode="compat").event


def connected(settings: Settings, body: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(settings.postgres.url)
        try:
            await body(connection)
        finally:
            await connection.close()

    run(main())


def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


async def append_order(connection: asyncpg.Connection, event: object = EVENT, **more: str) -> OutboxRow:
    return await append(connection, event, aggregate_type="order", aggregate_id="7", **more)  # type: ignore[arg-type]


def test_an_event_becomes_a_row_of_the_callers_transaction(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            row = await append_order(connection)
        stored = await connection.fetchrow("SELECT * FROM outbox")
        assert (stored["id"], stored["created_at"], stored["event_type"]) == (row.id, row.created_at, "order_status")
        assert stored["payload"] == row.payload
        assert decode(stored["payload"], mode="compat").event == EVENT

    connected(settings, body)


def test_a_rolled_back_event_was_never_there(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        async def fail() -> None:
            async with OutboxWriter(None, clock()).transaction(connection) as outbox:
                await outbox.append(EVENT, aggregate_type="order", aggregate_id="7")
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0

    connected(settings, body)


def test_outside_a_transaction_it_refuses(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        with pytest.raises(RuntimeError, match="open transaction"):
            await append_order(connection)

    connected(settings, body)


def test_a_bad_event_is_refused_and_the_transaction_stays_usable(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            for bad in ('{"event": "order_status"', payload(x="\0"), payload(pad="x" * 2_000_000)):
                with pytest.raises(ContractError):
                    await append_order(connection, bad)
            with pytest.raises(OutOfRange):
                await append(connection, EVENT, aggregate_type="order", aggregate_id="x" * 300)
            await append_order(connection)
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 1

    connected(settings, body)


def test_the_trace_context_rides_in_the_payload(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            with_trace = await append_order(connection, traceparent=TRACE)
            without = await append_order(connection, traceparent="nonsense")
        assert json.loads(with_trace.payload)["meta"]["traceparent"] == TRACE
        assert "meta" not in json.loads(without.payload)

    connected(settings, body)


def test_an_event_whose_meta_is_no_object_keeps_it_and_goes_without_a_trace(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        text = payload("7", meta="by hand")
        async with connection.transaction():
            row = await append_order(connection, text, traceparent=TRACE)
        assert row.payload == text

    connected(settings, body)


def test_the_bell_rings_after_the_commit_and_not_before(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        try:
            async with redis.doorbell() as bell:
                async with OutboxWriter(redis, clock()).transaction(connection) as outbox:
                    await outbox.append(EVENT, aggregate_type="order", aggregate_id="7")
                    assert not await bell.wait(0.1)
                assert await bell.wait(1.0)
        finally:
            await redis.close()

    connected(settings, body)


def test_a_redis_that_hangs_fails_no_commit_and_is_tried_by_the_first_one_only(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        tries: list[None] = []
        over = asyncio.Event()

        async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tries.append(None)
            await over.wait()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        redis = RedisLog(
            settings.redis.model_copy(update={"url": f"redis://127.0.0.1:{port}/0"}), "p", client_name="test"
        )
        try:
            writer = OutboxWriter(redis, clock())
            for _ in range(20):
                async with writer.transaction(connection) as outbox:
                    await outbox.append(EVENT, aggregate_type="order", aggregate_id="7")
            assert len(tries) == 1
            assert await connection.fetchval("SELECT count(*) FROM outbox") == 20
        finally:
            over.set()
            await redis.close()
            server.close()
            await server.wait_closed()

    connected(settings, body)


def test_writers_that_lock_their_aggregate_follow_each_other(settings: Settings):
    async def body(connection: asyncpg.Connection) -> None:
        other = await asyncpg.connect(settings.postgres.url)

        async def second() -> OutboxRow:
            async with other.transaction():
                await lock_aggregate(other, "order", "7")
                return await append_order(other)

        try:
            async with connection.transaction():
                await lock_aggregate(connection, "order", "7")
                waiting = asyncio.create_task(second())
                await asyncio.sleep(0.1)
                assert not waiting.done()
                first = await append_order(connection)
            assert (await waiting).id > first.id
        finally:
            await other.close()

    connected(settings, body)
