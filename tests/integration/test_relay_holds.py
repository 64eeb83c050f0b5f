"""Rows that wait: paused tenants, quotas, and aggregates that a poison row has stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from contracts.names import Stream
from runtime.settings import Settings
from streams import erasure, outbox_table, rewind_table, tenants
from tests.integration.test_relay import Bench, stepped
from tests.support.outbox import CLEAN, insert, payload, recount

BAD = "[]"


def with_relay(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update={"relay": settings.relay.model_copy(update=values)})


def with_poison(settings: Settings, policy: str) -> Settings:
    return with_relay(settings, poison={Stream.ORDERS: policy})


async def put(b: Bench, order: str, tenant: str = "t1") -> int:
    return await insert(b.connection, payload(order, tenant_id=tenant), order)


async def settle(b: Bench) -> None:
    """Let the relay look around, and finish what there is to do."""
    for _ in range(4):
        b.clock.advance(1.1)
        await b.drain()


async def letters(b: Bench) -> list[tuple[int, str, str]]:
    rows = await b.connection.fetch("SELECT * FROM headrace.dead_letter ORDER BY outbox_id")
    return [(row["outbox_id"], row["error_class"], row["state"]) for row in rows]


async def held(b: Bench) -> list[int]:
    return [row["outbox_id"] for row in await b.connection.fetch("SELECT * FROM headrace.hold ORDER BY outbox_id")]


def test_rows_of_a_paused_tenant_wait_and_those_of_others_do_not(settings: Settings):
    async def body(b: Bench) -> None:
        await tenants.pause(b.connection, "a", why="a test", by="me")
        mine = [await put(b, f"a{n % 3}", "a") for n in range(6)]
        others = [await put(b, f"b{n % 3}", "b") for n in range(6)]
        await settle(b)
        assert await b.ids() == others
        assert await held(b) == mine
        assert await tenants.resume(b.connection, "a", why="a test", by="me")
        await settle(b)
        assert await b.ids() == others + mine
        assert await held(b) == []
        assert await recount(settings.postgres.url, b.redis, settings.prefix) == CLEAN

    stepped(settings, body)


def test_a_row_of_a_resumed_tenant_never_passes_one_that_is_still_on_hold(settings: Settings):
    async def body(b: Bench) -> None:
        await tenants.pause(b.connection, "a", why="a test", by="me")
        first = [await put(b, "x", "a") for _ in range(7)]
        await settle(b)
        await tenants.resume(b.connection, "a", why="a test", by="me")
        later = await put(b, "x", "a")
        assert await b.relay.step() > 0
        await settle(b)
        assert await b.ids() == [*first, later]

    stepped(with_relay(settings, batch_rows=3), body)


def test_rows_on_hold_leave_the_scans(settings: Settings):
    async def body(b: Bench) -> None:
        await tenants.pause(b.connection, "a", why="a test", by="me")
        for n in range(20):
            await put(b, f"a{n}", "a")
        await settle(b)
        assert b.relay._plan.fresh_id == 20
        row = await put(b, "b", "b")
        b.clock.advance(0.01)
        assert await b.relay.step() == 1
        assert await b.ids() == [row]

    stepped(settings, body)


def test_an_order_of_two_tenants_keeps_its_order_when_one_is_paused(settings: Settings):
    async def body(b: Bench) -> None:
        await tenants.pause(b.connection, "a", why="a test", by="me")
        await tenants.pause(b.connection, "c", why="a test", by="me")
        rows = [await put(b, "x", tenant) for tenant in ("b", "a", "b", "c", "b")]
        await settle(b)
        assert await b.ids() == rows[:1]
        await tenants.resume(b.connection, "c", why="a test", by="me")
        await settle(b)
        assert await b.ids() == rows[:1]
        await tenants.pause(b.connection, "c", why="a test", by="me")
        await tenants.resume(b.connection, "a", why="a test", by="me")
        await settle(b)
        assert await b.ids() == rows[:3]
        await tenants.resume(b.connection, "c", why="a test", by="me")
        await settle(b)
        assert await b.ids() == rows

    stepped(settings, body)


def test_with_skip_only_the_poison_row_is_missing(settings: Settings):
    async def body(b: Bench) -> None:
        first, bad, last = await put(b, "x"), await insert(b.connection, BAD, "x"), await put(b, "x")
        await settle(b)
        assert await b.ids() == [first, last]
        assert await letters(b) == [(bad, "BadJson", "dead")]

    stepped(settings, body)


def test_with_block_later_rows_of_the_aggregate_wait_until_the_letter_is_discarded(settings: Settings):
    async def body(b: Bench) -> None:
        first, bad, second = await put(b, "x"), await insert(b.connection, BAD, "x"), await put(b, "x")
        other = await put(b, "y")
        await settle(b)
        third = await put(b, "x")
        await settle(b)
        assert await b.ids() == [first, other]
        assert await held(b) == [second, third]
        await move(b, "state = 'discarded'", [bad])
        await settle(b)
        assert await b.ids() == [first, other, second, third]
        assert await letters(b) == [(bad, "BadJson", "discarded")]
        assert await b.connection.fetchval("SELECT count(*) FROM headrace.stop") == 0

    stepped(with_poison(settings, "block"), body)


def test_a_blocked_row_that_was_mended_and_requeued_goes_out_before_what_waits_for_it(settings: Settings):
    async def body(b: Bench) -> None:
        bad, second = await insert(b.connection, BAD, "x"), await put(b, "x")
        await settle(b)
        await b.connection.execute("UPDATE outbox SET payload = $1::text::json WHERE id = $2", payload("x"), bad)
        assert await requeue(b, bad) == {bad}
        await settle(b)
        assert await b.ids() == [bad, second]
        assert await letters(b) == [(bad, "BadJson", "recovered")]
        assert await recount_without_letters(b) == CLEAN

    stepped(with_poison(settings, "block"), body)


def test_a_requeued_row_that_fails_again_is_the_same_letter_and_stops_its_aggregate_as_before(settings: Settings):
    async def body(b: Bench) -> None:
        bad, second = await insert(b.connection, BAD, "x"), await put(b, "x")
        await settle(b)
        await requeue(b, bad)
        await settle(b)
        assert await b.ids() == []
        assert await held(b) == [second]
        assert await letters(b) == [(bad, "BadJson", "dead")]
        assert await b.connection.fetchval("SELECT attempts FROM headrace.dead_letter") == 2

    stepped(with_poison(settings, "block"), body)


def test_with_park_later_rows_follow_into_the_dead_letters_and_come_back_in_order(settings: Settings):
    async def body(b: Bench) -> None:
        first, bad = await put(b, "x"), await insert(b.connection, BAD, "x")
        later = [await put(b, "x") for _ in range(3)]
        other = await put(b, "y")
        await settle(b)
        later.append(await put(b, "x"))
        await settle(b)
        assert await b.ids() == [first, other]
        assert await letters(b) == [(bad, "BadJson", "dead"), *((row, "Parked", "dead") for row in later)]
        await requeue(b, later[1])
        await settle(b)
        assert await b.ids() == [first, other], "an earlier one is still dead"
        await b.connection.execute("UPDATE outbox SET payload = $1::text::json WHERE id = $2", payload("x"), bad)
        assert await requeue(b, bad, *later) == {bad, *later}
        await settle(b)
        assert await b.ids() == [first, other, bad, *later]
        assert {state for _, _, state in await letters(b)} == {"recovered"}
        assert await b.connection.fetchval("SELECT count(*) FROM headrace.stop") == 0

    stepped(with_poison(settings, "park"), body)


def test_a_row_that_is_gone_is_not_requeued_and_does_not_hold_up_its_order(settings: Settings):
    async def body(b: Bench) -> None:
        bad = await insert(b.connection, BAD, "x")
        await settle(b)
        created_at = await b.connection.fetchval("SELECT created_at FROM outbox WHERE id = $1", bad)
        await b.connection.execute("DELETE FROM outbox")
        assert await outbox_table.rearm(b.connection, [(bad, created_at)]) == set()

    stepped(settings, body)


def test_rows_on_hold_that_somebody_deletes_are_forgotten(settings: Settings):
    async def body(b: Bench) -> None:
        await tenants.pause(b.connection, "a", why="a test", by="me")
        gone, stays = await put(b, "x", "a"), await put(b, "x", "a")
        await settle(b)
        await b.connection.execute("DELETE FROM outbox WHERE id = $1", gone)
        await tenants.resume(b.connection, "a", why="a test", by="me")
        await settle(b)
        assert await b.ids() == [stays]
        assert await held(b) == []

    stepped(settings, body)


def test_a_tenant_over_its_quota_waits_in_order_and_delays_nobody_else(settings: Settings):
    noisy = with_relay(settings, tenant_quotas={"a": 10.0}, tenant_burst_s=0.5)

    async def body(b: Bench) -> None:
        mine = [await put(b, f"a{n % 2}", "a") for n in range(12)]
        others = [await put(b, f"b{n % 2}", "b") for n in range(12)]
        b.clock.advance(1.0)
        await b.relay.step()
        published = await b.ids()
        assert set(others) < set(published)
        assert published[:5] == mine[:5]
        assert len(published) < 24
        await until(b, lambda: done(b, 24))
        assert [row for row in await b.ids() if row in mine] == mine
        assert await recount(settings.postgres.url, b.redis, settings.prefix) == CLEAN

    stepped(noisy, body)


async def done(b: Bench, count: int) -> bool:
    return len(await b.ids()) == count


async def until(b: Bench, condition: Callable[[], Awaitable[bool]]) -> None:
    """The buckets fill by the database's clock, so this takes real time."""
    while not await condition():
        await b.connection.execute("SELECT pg_sleep(0.05)")
        b.clock.advance(0.1)
        await b.relay.step()


async def requeue(b: Bench, *row_ids: int) -> set[int]:
    """As the dead letters do it."""
    connection: asyncpg.Connection = b.connection
    async with connection.transaction():
        rows = await connection.fetch("SELECT id, created_at FROM outbox WHERE id = ANY($1)", row_ids)
        armed = await outbox_table.rearm(connection, [(row["id"], row["created_at"]) for row in rows])
        await move(b, "state = 'requeued', waiting = false", row_ids)
    return armed


async def move(b: Bench, change: str, row_ids: Sequence[int]) -> None:
    async with b.connection.transaction():
        await b.connection.execute("SELECT set_config('headrace.why', 'a test', true)")
        await b.connection.execute(f"UPDATE headrace.dead_letter SET {change} WHERE outbox_id = ANY($1)", row_ids)  # noqa: S608


async def recount_without_letters(b: Bench) -> object:
    async with b.connection.transaction():
        await b.connection.execute("SELECT set_config('headrace.why', 'a test', true)")
        await b.connection.execute("DELETE FROM headrace.dead_letter WHERE state = 'recovered'")
    return await recount(b.settings.postgres.url, b.redis, b.settings.prefix)


def test_rows_that_an_erasure_took_off_hold_are_not_published_when_redis_forgets(settings: Settings):
    async def body(b: Bench) -> None:
        since = await rewind_table.now(b.connection)
        await tenants.pause(b.connection, "a", why="a test", by="me")
        other, mine = await put(b, "y", "b"), await put(b, "x", "a")
        await settle(b)
        assert await held(b) == [mine]
        assert await erasure.release_holds(b.connection, "a") == 1
        async with b.connection.transaction():
            armed = await rewind_table.rearm_since(b.connection, "another", since)
        assert armed == (1, other)

    stepped(settings, body)
