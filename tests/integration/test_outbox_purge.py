from __future__ import annotations

from typing import cast

from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import postgres
from streams.outbox_purge import CHUNK_ROWS, OutboxPurge
from streams.relay_metrics import RelayMetrics
from tests.integration.test_relay import Bench, stepped
from tests.support.outbox import fill, insert, payload


async def purged(b: Bench, hours: float = 1.0) -> int:
    connection = await postgres.connect(b.settings.postgres, name="test")
    try:
        purge = OutboxPurge(b.settings.postgres, hours, RelayMetrics(Metrics()), b.clock)
        return await purge.walk(connection)
    finally:
        await postgres.close(connection)


async def grow_old(b: Bench, where: str = "true") -> None:
    older = "created_at = created_at - interval '2 hours', processed_at = processed_at - interval '2 hours'"
    await b.connection.execute(f"UPDATE outbox SET {older} WHERE {where}")  # noqa: S608
    await b.connection.execute(
        "UPDATE headrace.dead_letter d SET outbox_created_at = o.created_at FROM outbox o WHERE o.id = d.outbox_id"
    )


async def left(b: Bench) -> list[int]:
    return [cast("int", row["id"]) for row in await b.connection.fetch("SELECT id FROM outbox ORDER BY id")]


def test_old_processed_rows_are_deleted_in_pieces_but_the_last_one(settings: Settings):
    async def body(b: Bench) -> None:
        await fill(settings.postgres.url, 2 * CHUNK_ROWS + 10)
        await b.drain()
        await grow_old(b)
        assert await purged(b) == 2 * CHUNK_ROWS + 9
        assert await left(b) == [2 * CHUNK_ROWS + 10]
        await insert(b.connection, payload())
        assert await b.drain() == 1

    stepped(settings, body)


def test_young_and_waiting_rows_and_those_with_an_open_letter_stay(settings: Settings):
    async def body(b: Bench) -> None:
        old, bad, young = [await insert(b.connection, text) for text in (payload(), "[]", payload())]
        await b.drain()
        await grow_old(b, f"id <= {bad}")
        waiting = await insert(b.connection, payload())
        assert await purged(b) == 1
        assert await left(b) == [bad, young, waiting]
        assert old not in await left(b)

    stepped(settings, body)


def test_rows_that_have_waited_for_long_do_not_keep_later_ones_from_being_deleted(settings: Settings):
    async def body(b: Bench) -> None:
        await fill(settings.postgres.url, CHUNK_ROWS)
        old, last = [await insert(b.connection, payload()) for _ in range(2)]
        await b.connection.execute("UPDATE outbox SET processed = true, processed_at = now() WHERE id = $1", old)
        await grow_old(b, f"id <= {old}")
        assert await purged(b) == 1
        assert await left(b) == [*range(1, CHUNK_ROWS + 1), last]

    stepped(settings, body)


def test_only_one_relay_deletes_at_a_time(settings: Settings):
    async def body(b: Bench) -> None:
        await fill(settings.postgres.url, 10)
        await b.drain()
        await grow_old(b)
        async with b.connection.transaction():
            await b.connection.execute(
                "SELECT pg_advisory_xact_lock($1)", int.from_bytes(b"hr-purge", "big", signed=True)
            )
            assert await purged(b) == 0
        assert await purged(b) == 9

    stepped(settings, body)
