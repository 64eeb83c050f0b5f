from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from contracts.errors import ServerMissing
from runtime.settings import Settings
from streams.leases import Leases
from streams.redis_log import CHUNK_ENTRIES, START, NewEntry, RedisLog, StreamInfo
from tests.support.aio import run


def on_redis(settings: Settings, body: Callable[[RedisLog, str], Awaitable[None]]) -> None:
    async def main() -> None:
        log = RedisLog(settings.redis, settings.prefix, client_name="test")
        try:
            await body(log, f"{settings.prefix}:stream:orders")
        finally:
            await log.close()

    run(main())


def new(stream: str, count: int, begin: int = 0) -> list[NewEntry]:
    return [NewEntry(stream, f"ob-{n}-1", {"n": str(n), "payload": b"\xff\x00{}"}) for n in range(begin, begin + count)]


def test_a_repeat_is_a_no_op_that_answers_the_first_ids(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        first = await log.publish(new(stream, 250))
        again = await log.publish(new(stream, 260))
        assert [entry.id for entry in again[:250]] == [entry.id for entry in first]
        assert [entry.repeat for entry in again] == [True] * 250 + [False] * 10
        assert [entry.fields["n"] for entry in await log.read_range(stream, "-", "+", 1000)] == [
            str(n).encode() for n in range(260)
        ]

    on_redis(settings, body)


def test_entries_are_read_by_explicit_id_byte_for_byte(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        published = await log.publish(new(stream, 5))
        entries = await log.read_after(stream, published[1].id, 2)
        assert [entry.id for entry in entries] == [published[2].id, published[3].id]
        assert entries[0].fields["payload"] == b"\xff\x00{}"
        assert await log.read_range(stream, f"({published[3].id}", "+", 9) == await log.read_after(
            stream, published[3].id, 9
        )

    on_redis(settings, body)


def test_a_blocking_read_ends_with_the_first_entry_or_empty_handed(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        # Longer than the socket's timeout on purpose: it is cut to fit.
        assert await log.read_after(stream, START, 10, block_s=60.0) == []
        reading = asyncio.create_task(log.read_after(stream, START, 10, block_s=1.0))
        await asyncio.sleep(0.05)
        await log.publish(new(stream, 1))
        assert len(await reading) == 1

    on_redis(settings, body)


def test_a_stream_tells_its_extent_and_trimming_leaves_its_last_id(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        assert await log.stream_info(stream) == StreamInfo(0, None, START)
        published = await log.publish(new(stream, 400))
        assert await log.stream_info(stream) == StreamInfo(400, published[0].id, published[-1].id)
        trimmed = await log.trim_before(stream, published[300].id)
        info = await log.stream_info(stream)
        assert 0 < trimmed <= 300
        assert (info.length, info.last_id) == (400 - trimmed, published[-1].id)

    on_redis(settings, body)


def test_a_script_that_redis_forgot_is_sent_again(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        await log.publish(new(stream, 1))
        await log.call("SCRIPT", "FLUSH")
        assert [entry.repeat for entry in await log.publish(new(stream, 2))] == [True, False]

    on_redis(settings, body)


def test_one_owner_a_stream_and_each_new_one_has_a_higher_epoch(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        leases = Leases(log, settings.prefix)
        first = await leases.acquire(stream, "a", 0.2)
        assert first is not None
        assert await leases.acquire(stream, "b", 5.0) is None
        assert await leases.renew(first, 0.2)
        await asyncio.sleep(0.3)
        second = await leases.acquire(stream, "b", 5.0)
        assert second is not None
        assert second.epoch > first.epoch
        assert not await leases.renew(first, 5.0)
        assert not await leases.release(first)
        assert await leases.release(second)

    on_redis(settings, body)


def test_a_further_turn_under_a_lease_has_a_number_above_all_that_were_used(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        leases = Leases(log, settings.prefix)
        lease = await leases.acquire(stream, "a", 5.0)
        assert lease is not None
        above = lease.epoch + 10**6
        assert await leases.number(lease, above) == above + 1
        assert await leases.number(lease, 0) == above + 2
        await leases.release(lease)
        assert await leases.number(lease, 0) is None

    on_redis(settings, body)


def test_who_takes_a_stream_over_knows_whether_the_last_owner_left_it_in_order(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        leases = Leases(log, settings.prefix)
        given_back = []
        for how in ("in order", "died", "unsettled", "in order", "in order"):
            lease = await leases.acquire(stream, how, 0.05 if how == "died" else 5.0)
            assert lease is not None
            given_back.append((lease.given_back, lease.epoch))
            if how == "died":
                await asyncio.sleep(0.1)
            else:
                await leases.release(lease, settled=how == "in order")
        first, second, third, fourth, fifth = given_back
        assert first[0] == 0
        assert second[0] == first[1]
        assert third[0] == fourth[0] == -1
        assert fifth[0] == fourth[1]

    on_redis(settings, body)


def test_only_the_owner_writes_the_position(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        leases = Leases(log, settings.prefix)
        assert await leases.read_position(stream) == {}
        lease = await leases.acquire(stream, "a", 5.0)
        assert lease is not None
        assert await leases.write_position(lease, {"position": "5-0", "epoch": lease.epoch})
        await leases.release(lease)
        assert not await leases.write_position(lease, {"position": "9-0"})
        assert await leases.read_position(stream) == {"position": "5-0", "epoch": str(lease.epoch)}

    on_redis(settings, body)


def test_a_bell_is_heard_by_who_listens(settings: Settings):
    async def body(log: RedisLog, stream: str) -> None:
        await log.ring(stream)
        async with log.doorbell() as bell:
            assert not await bell.wait(0.1)
            await log.ring("orders")
            assert await bell.wait(1.0)
            assert not await bell.wait(0.05)

    on_redis(settings, body)


def test_each_process_lag_is_kept_under_its_name(settings: Settings):
    async def body(log: RedisLog, _stream: str) -> None:
        await log.write_lag("relay", '{"count": 1}')
        await log.write_lag("mirror:orders", '{"count": 2}')
        assert await log.read_lag() == {"relay": '{"count": 1}', "mirror:orders": '{"count": 2}'}

    on_redis(settings, body)


def test_a_cancellation_that_comes_while_a_command_is_sent_is_not_lost(settings: Settings):
    """redis-py sends under asyncio.wait_for, which in Python 3.11 swallows one that comes when all is sent."""

    async def body(log: RedisLog, stream: str) -> None:
        del stream

        async def ask_for_ever() -> None:
            while True:
                await log.call("PING")

        for turns in range(300):
            asking = asyncio.create_task(ask_for_ever())
            for _ in range(turns % 23):
                await asyncio.sleep(0)
            asking.cancel()
            async with asyncio.timeout(30):
                await asyncio.gather(asking, return_exceptions=True)
            assert asking.cancelled()

    on_redis(settings, body)


def test_a_chunk_is_not_published_when_the_one_before_it_failed(settings: Settings):
    """The chunks are sent together; the second fails, as its entry has no fields."""

    async def body(log: RedisLog, stream: str) -> None:
        good = new(stream, 2 * CHUNK_ENTRIES)
        with pytest.raises(ServerMissing):
            await log.publish([*good[:50], NewEntry(stream, "ob-bad-1", {}), *good[50:]])
        assert (await log.stream_info(stream)).length == 50
        assert [answer.repeat for answer in await log.publish(good)] == [True] * 50 + [False] * 150

    on_redis(settings, body)


def test_connections_that_are_made_anew_while_one_is_being_made_are_missed_in_order(settings: Settings):
    """A relay that finds Redis exchanged trusts the new one, while its listener connects."""
    closed: list[ServerMissing] = []

    async def listen(log: RedisLog) -> None:
        try:
            async with log.doorbell():
                pass
        except ServerMissing as error:
            closed.append(error)

    async def body(log: RedisLog, _stream: str) -> None:
        for turns in range(300):
            listening = asyncio.create_task(listen(log))
            for _turn in range(turns % 60):
                await asyncio.sleep(0)
            await log.trust("")
            await listening

    on_redis(settings, body)
    assert closed, "no connection was closed while it was made: the test proved nothing"
