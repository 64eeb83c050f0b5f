"""What a relay that is stepped by hand makes of a Redis that lost entries, and of one that only seems to have."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from contracts.errors import ServerMissing
from contracts.names import Stream, redis_stream
from runtime.lag import StageLag
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import tenants
from streams.redis_log import RedisLog
from streams.relay_metrics import RelayMetrics
from streams.relay_rewind import RelayRewind
from tests.integration.test_relay import Bench, another_writer, eventually, stepped
from tests.integration.test_relay_holds import held, put, settle
from tests.support.outbox import insert, payload


async def forget(b: Bench) -> None:
    """Redis loses the stream and the markers of its rows, and the relay finds out."""
    stream = redis_stream(b.settings.prefix, Stream.ORDERS)
    await b.redis.call("DEL", stream, *await b.redis.call("KEYS", f"{{{stream}}}:m:*"))
    b.clock.advance(1.1)
    with pytest.raises(ServerMissing, match="less far"):
        await b.relay.step()
    await b.relay._settle()


async def rewinds(b: Bench) -> int:
    return int(await b.connection.fetchval("SELECT rewinds FROM headrace.redis_server"))


def test_what_redis_lost_comes_again_before_held_rows_of_its_aggregate(settings: Settings):
    async def body(b: Bench) -> None:
        first = [await put(b, "x", "a"), await put(b, "x", "b")]
        other = await put(b, "y", "b")
        await settle(b)
        await tenants.pause(b.connection, "a", why="a test", by="me")
        later = [await put(b, "x", "a"), await put(b, "x", "b")]
        await settle(b)
        assert await held(b) == later
        await tenants.resume(b.connection, "a", why="a test", by="me")
        await forget(b)
        await settle(b)
        assert [row for row in await b.ids() if row != other] == [*first, *later]
        assert other in await b.ids()
        assert await held(b) == []

    stepped(settings, body)


def test_what_is_published_while_another_relay_waits_to_begin_is_not_taken_for_lost(settings: Settings):
    patient = settings.postgres.model_copy(update={"lock_timeout_s": 30.0, "idle_in_transaction_timeout_s": 30.0})

    async def body(b: Bench) -> None:
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        another = RelayRewind(b.settings, redis, RelayMetrics(Metrics()), b.clock)
        async with another_writer(settings) as beginner, another_writer(settings) as gate:
            closed = gate.transaction()
            await closed.start()
            await gate.execute("SELECT FROM headrace.redis_server FOR UPDATE")
            beginning = asyncio.create_task(another.settle(beginner))
            await eventually(lambda: waits_for_a_lock(b.connection, beginner))
            await insert(b.connection, payload())
            await settle(b)
            await closed.commit()
            await beginning
        await redis.close()
        assert await rewinds(b) == 0

    stepped(settings.model_copy(update={"postgres": patient}), body)


async def waits_for_a_lock(connection: asyncpg.Connection, who: asyncpg.Connection) -> bool:
    asked = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
    return bool(await connection.fetchval(asked, who.get_server_pid()))


def test_only_what_every_mirror_says_and_nothing_that_is_parked_counts_as_being_in_kafka(settings: Settings):
    async def body(b: Bench) -> None:
        async def noted() -> object:
            b.clock.advance(1.1)
            await b.drain()
            return await b.connection.fetchval("SELECT mirrored_to FROM headrace.redis_note ORDER BY at DESC LIMIT 1")

        lag = StageLag(0, 0.0, b.clock.wall_s()).to_json()
        await insert(b.connection, payload())
        assert await noted() is None
        assert await noted() is None
        await b.redis.write_lag("mirror:tools", lag)
        assert await noted() is None, "the mirror of another stream"
        await b.redis.write_lag("mirror:orders", lag)
        assert await noted() is not None
        await b.redis.call("SADD", f"{settings.prefix}:mirror:orders:parked", "a")
        assert await noted() is None, "an entry waits for its tenant's quota"

    stepped(settings, body)
