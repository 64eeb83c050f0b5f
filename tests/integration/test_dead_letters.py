from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from contracts.errors import ServerMissing
from runtime.settings import PostgresSettings, Settings
from streams import postgres
from streams.dead_letters import PIECE_BYTES, PIECE_LETTERS, DeadLetter, DeadLetters, bury, headers_of
from tests.support.aio import run

RECORD = DeadLetter(
    source="orders",
    topic="p.orders",
    incarnation="0a1b2c3d",
    partition=2,
    offset=77,
    tenant_id="t1",
    event_type="order_status",
    key=b"t1\x1f7",
    headers=(("ce_id", b"ob-1-1"), ("raw", b"\xff\x00")),
    payload=b'{"x": "\\u0000"}\x00\xff',
    error_class="BadText",
    error_text="must hold no NUL: \0, nor \ud800",
)
ROW = DeadLetter(
    source="relay",
    outbox_id=5,
    outbox_created_at=datetime(2026, 1, 1, tzinfo=UTC),
    tenant_id="",
    event_type="order_status",
    key=b"7",
    headers=(),
    payload=b"{}",
    error_class="MissingField",
    error_text="version is required",
)


def buried(settings: Settings, body: Callable[[DeadLetters, asyncpg.Connection], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(settings.postgres.url)
        try:
            async with postgres.pool(settings.postgres, name="test", size=2) as pool:
                await body(DeadLetters(pool, settings.postgres), connection)
        finally:
            await connection.close()

    run(main())


def test_a_letter_keeps_every_byte_and_its_position(settings: Settings):
    async def body(letters: DeadLetters, connection: asyncpg.Connection) -> None:
        await letters.bury([RECORD, ROW])
        record, row = await connection.fetch("SELECT * FROM headrace.dead_letter ORDER BY source")
        assert (record["key"], record["payload"]) == (RECORD.key, RECORD.payload)
        assert headers_of(record["headers"]) == RECORD.headers
        assert (record["topic"], record["incarnation"], record["partition"], record["offset"]) == (
            "p.orders",
            "0a1b2c3d",
            2,
            77,
        )
        assert record["error_text"] == "must hold no NUL: \\0, nor \\ud800"
        assert (row["outbox_id"], row["attempts"], row["state"], row["topic"]) == (5, 1, "dead", None)

    buried(settings, body)


def test_burying_again_counts_an_attempt_and_makes_no_second_letter(settings: Settings):
    async def body(letters: DeadLetters, connection: asyncpg.Connection) -> None:
        for _ in range(3):
            await letters.bury([RECORD, ROW])
        await asyncio.gather(*(letters.bury([RECORD]) for _ in range(4)))
        rows = await connection.fetch("SELECT * FROM headrace.dead_letter ORDER BY source")
        assert [row["attempts"] for row in rows] == [7, 3]
        assert all(row["last_at"] > row["first_at"] for row in rows)

    buried(settings, body)


def test_a_flood_of_letters_is_buried_a_piece_in_each_transaction(settings: Settings):
    """All in one would take longer than a statement may, and be repeated in vain for ever."""
    flood = [replace(RECORD, offset=n) for n in range(2 * PIECE_LETTERS + 1)]
    heavy = [replace(RECORD, offset=-n, payload=b"x" * (PIECE_BYTES // 2 + 1)) for n in (1, 2)]

    async def body(letters: DeadLetters, connection: asyncpg.Connection) -> None:
        await letters.bury([*flood, *heavy])
        pieces = await connection.fetch("SELECT count(*) FROM headrace.dead_letter GROUP BY xmin ORDER BY min(id)")
        assert [row[0] for row in pieces] == [PIECE_LETTERS, PIECE_LETTERS, 2, 1]

    buried(settings, body)


def test_the_same_position_of_another_consumer_topic_incarnation_or_time_is_another_letter(settings: Settings):
    others = [
        replace(RECORD, source="tool_calls"),
        replace(RECORD, topic="p.tools"),
        replace(RECORD, incarnation="ffffffff"),
        replace(ROW, outbox_created_at=datetime(2026, 1, 2, tzinfo=UTC)),
    ]

    async def body(letters: DeadLetters, connection: asyncpg.Connection) -> None:
        await letters.bury([RECORD, ROW, *others])
        assert await connection.fetchval("SELECT count(*) FROM headrace.dead_letter") == 6

    buried(settings, body)


def test_letters_of_a_rolled_back_transaction_are_not_there(settings: Settings):
    async def body(_letters: DeadLetters, connection: asyncpg.Connection) -> None:
        transaction = connection.transaction()
        await transaction.start()
        await bury(connection, [ROW])
        await transaction.rollback()
        assert await connection.fetchval("SELECT count(*) FROM headrace.dead_letter") == 0

    buried(settings, body)


def test_a_connection_that_was_cut_is_replaced(settings: Settings):
    async def body(letters: DeadLetters, connection: asyncpg.Connection) -> None:
        await letters.bury([ROW])
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'test' AND datname = current_database()"
        )
        await asyncio.sleep(0.1)
        await letters.bury([RECORD])
        assert await connection.fetchval("SELECT count(*) FROM headrace.dead_letter") == 2

    buried(settings, body)


def test_a_postgres_that_is_not_there_is_a_missing_server():
    async def main() -> None:
        nowhere = PostgresSettings(url="postgresql://u:secret@127.0.0.1:1/x")
        async with postgres.pool(nowhere, name="test", size=1) as pool:
            with pytest.raises(ServerMissing) as missing:
                await DeadLetters(pool, nowhere).bury([ROW])
        assert "secret" not in str(missing.value)

    run(main())
