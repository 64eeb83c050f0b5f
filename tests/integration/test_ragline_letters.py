from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from runtime.settings import Settings
from streams import postgres, ragline_letters
from streams.ragline_letters import Found, Imported, letter_of
from streams.redis_log import RedisLog
from tests.support.aio import run
from tests.support.outbox import insert, payload

PREFIX = "rag"


class Old:
    """A deployment that kept its dead letters in Redis lists."""

    def __init__(self, settings: Settings, connection: asyncpg.Connection, redis: RedisLog) -> None:
        self.settings = settings
        self.connection = connection
        self.redis = redis
        self.prefix = f"{settings.prefix}-{PREFIX}"

    async def row(self, order_id: str, *, processed: bool = True) -> dict[str, Any]:
        """A row of the outbox, and the entry that was made of it."""
        row_id = await insert(self.connection, payload(order_id), order_id)
        await self.connection.execute("UPDATE outbox SET processed = $2 WHERE id = $1", row_id, processed)
        created_at = await self.connection.fetchval("SELECT created_at FROM outbox WHERE id = $1", row_id)
        return {
            "event_id": str(row_id),
            "aggregate_id": order_id,
            "aggregate_type": "order",
            "event_type": "order_status",
            "payload": payload(order_id),
            "created_at": created_at.isoformat(),
            "retry_count": "4",
            "failed_at": "2026-01-02T03:04:05+00:00",
            "reason": "Max retries exceeded",
            "status": "failed",
            "last_attempt": None,
        }

    async def push(self, entry: object, key: str = "dlq:order") -> None:
        raw = entry if isinstance(entry, str) else json.dumps(entry)
        await self.redis.call("LPUSH", f"{self.prefix}:{key}", raw)

    async def take_over(self, *, remove: bool = False, dry_run: bool = False) -> Imported:
        of = self.settings.postgres
        return await ragline_letters.take_over(
            self.redis, self.connection, of, self.prefix, remove=remove, dry_run=dry_run
        )

    async def length(self, key: str = "dlq:order") -> int:
        return int(await self.redis.call("LLEN", f"{self.prefix}:{key}"))

    async def letters(self) -> list[asyncpg.Record]:
        return list(await self.connection.fetch("SELECT * FROM headrace.dead_letter ORDER BY outbox_id"))


def on(settings: Settings, body: Callable[[Old], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = await postgres.connect(settings.postgres, name="test")
        redis = RedisLog(settings.redis, settings.prefix, client_name="test")
        try:
            await body(Old(settings, connection, redis))
        finally:
            await redis.close()
            await postgres.close(connection)

    run(main())


def test_entries_become_letters_of_their_rows_once_however_often_they_are_taken_over(settings: Settings):
    async def body(old: Old) -> None:
        entries = [await old.row(str(n)) for n in range(1203)]
        for entry in entries:
            await old.push(entry)
        await old.push(entries[0])
        await old.push(entries[1], "dlq:expired:order")
        first, second = await old.take_over(), await old.take_over()
        assert (first.added, first.known) == (1203, 2)
        assert (second.added, second.known) == (0, 1205)
        letter = (await old.letters())[0]
        row = await old.connection.fetchrow("SELECT * FROM outbox WHERE id = $1", letter["outbox_id"])
        assert (letter["source"], letter["outbox_created_at"]) == ("relay", row["created_at"])
        assert (letter["tenant_id"], letter["attempts"], letter["error_class"]) == ("t1", 5, "Ragline")
        assert json.loads(letter["payload"]) == json.loads(row["payload"])
        assert await old.length() == 1204

    on(settings, body)


def test_entries_leave_redis_only_when_asked_and_only_those_that_were_read(settings: Settings):
    async def body(old: Old) -> None:
        await old.push(await old.row("1"))
        await old.push(await old.row("2", processed=False))
        await old.push("not JSON")
        await old.push({"event_id": "order_7_created_1700000000"})
        await old.push(await old.row("3"), "dlq:resolved:order")
        done = await old.take_over(remove=True)
        assert (done.added, done.waiting, len(done.unreadable), done.removed) == (1, 1, 2, 2)
        assert (await old.length(), await old.length("dlq:resolved:order")) == (2, 1)

    on(settings, body)


def test_a_row_that_the_relay_published_after_its_entry_was_removed_becomes_no_letter(settings: Settings):
    async def body(old: Old) -> None:
        await old.push(await old.row("1", processed=False))
        await old.take_over(remove=True)
        await old.connection.execute("UPDATE outbox SET processed = true")
        await old.take_over(remove=True)
        assert await old.letters() == []

    on(settings, body)


def test_a_dry_run_writes_nothing(settings: Settings):
    async def body(old: Old) -> None:
        await old.push(await old.row("1"))
        done = await old.take_over(remove=True, dry_run=True)
        assert (done.added, done.known, done.removed) == (0, 1, 0)
        assert (await old.letters(), await old.length()) == ([], 1)

    on(settings, body)


def test_a_row_that_is_gone_or_is_another_one_by_now_is_told(settings: Settings):
    async def body(old: Old) -> None:
        gone, other = await old.row("1"), await old.row("2")
        await old.connection.execute("DELETE FROM outbox WHERE id = $1", int(gone["event_id"]))
        await old.push(gone)
        await old.push({**other, "created_at": "2020-01-01T00:00:00+00:00"})
        done = await old.take_over()
        assert (done.added, done.gone_rows) == (2, 2)

    on(settings, body)


@pytest.mark.parametrize(
    ("field", "value"),
    [("event_id", "1e400"), ("retry_count", "1e400"), ("created_at", '"0001-01-01T00:00:00+14:00"')],
)
def test_an_entry_with_numbers_beyond_all_bounds_is_no_letter_and_holds_up_no_other(field: str, value: str):
    entry = {"event_id": '"1"', "created_at": '"2026-01-01T00:00:00"', "aggregate_id": '"7"', "retry_count": "3"}
    entry |= {"aggregate_type": '"order"', "event_type": '"created"', "payload": '"{}"'}
    made = [
        b"{" + ", ".join(f'"{k}": {v}' for k, v in e.items()).encode() + b"}" for e in (entry, entry | {field: value})
    ]
    assert [letter_of(Found("rag:dlq:order", raw)) is not None for raw in made] == [True, False]


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b'{"event_id": "1"}', b"[" * 100_000])
def test_what_is_no_entry_is_no_letter(raw: bytes):
    assert letter_of(Found("rag:dlq:order", raw)) is None
