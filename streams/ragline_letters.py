"""Dead letters of a RAGline deployment, taken over from its Redis lists.

    <prefix>:dlq:<aggregate type>            entries that failed; JSON, newest first
    <prefix>:dlq:expired:<aggregate type>    the same after a week, some of them many times
    <prefix>:dlq:resolved:<aggregate type>   done with: left alone

Each entry names a row of the outbox by id and creation time, and so does the letter that it becomes: an entry that is
there twice, or was taken over before, makes no second one. A row that still waits in the outbox is not taken over,
since the relay publishes it; its entry is done with all the same, since later it would look like one that failed.
Nothing is removed from Redis before the letters are committed, and then only what was read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from contracts.names import OutboxId
from streams import postgres
from streams.dead_letters import RELAY, DeadLetter, add_missing

if TYPE_CHECKING:
    from runtime.settings import PostgresSettings
    from streams.postgres import Connection
    from streams.redis_log import RedisLog

ERROR_CLASS = "Ragline"
PAGE_ENTRIES = 500
MAX_ID = 2**31 - 1
# The entry's time went through Python's isoformat, the row's is PostgreSQL's: the same, or cut to what a text holds.
_SAME_TIME = timedelta(seconds=1)
_NOT_LETTERS = ("resolved", "processing")

_ROWS = """
SELECT id, aggregate_id, aggregate_type, created_at, processed IS TRUE AS processed FROM outbox
WHERE id = ANY($1::bigint[])"""


class Found(NamedTuple):
    """An entry of a list, as it stands there."""

    key: str
    raw: bytes


class OutboxPlace(NamedTuple):
    """What the outbox says of a row."""

    aggregate_id: str
    aggregate_type: str
    created_at: datetime
    processed: bool


@dataclass
class Imported:
    """What became of the entries; those that are `unreadable` stay where they are."""

    added: int = 0
    known: int = 0
    waiting: int = 0
    gone_rows: int = 0
    unreadable: list[Found] = field(default_factory=list)
    removed: int = 0


def letter_of(found: Found) -> DeadLetter | None:
    """The letter that an entry stands for; None when it does not name a row of the outbox."""
    try:
        entry = json.loads(found.raw)
        outbox_id, created_at = int(entry["event_id"]), datetime.fromisoformat(entry["created_at"])
        payload = entry["payload"] if isinstance(entry["payload"], str) else json.dumps(entry["payload"])
        aggregate_id, aggregate_type = str(entry["aggregate_id"]), str(entry["aggregate_type"])
        event_type, attempts = str(entry["event_type"]), 1 + max(0, int(entry.get("retry_count") or 0))
        created_at = (created_at if created_at.tzinfo else created_at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    if not 0 < outbox_id <= MAX_ID:
        return None
    told = ", ".join(f"{name} {entry[name]}" for name in ("status", "failed_at", "last_attempt") if entry.get(name))
    return DeadLetter(
        source=RELAY,
        outbox_id=outbox_id,
        outbox_created_at=created_at,
        tenant_id=_tenant(payload),
        event_type=event_type,
        key=aggregate_id.encode("utf-8", "surrogatepass"),
        headers=(("aggregate_type", aggregate_type.encode("utf-8", "surrogatepass")),),
        payload=payload.encode("utf-8", "surrogatepass"),
        error_class=ERROR_CLASS,
        error_text=f"{entry.get('reason') or 'no reason'} ({told}; {found.key})",
        attempts=min(attempts, 1000),
    )


def placed(letter: DeadLetter, row: OutboxPlace | None) -> DeadLetter:
    """The letter with the row's own creation time, when it is the same row."""
    if row is None or letter.outbox_created_at is None:
        return letter
    about = dict(letter.headers)["aggregate_type"].decode(errors="replace"), letter.key.decode(errors="replace")
    is_same = about == (row.aggregate_type, row.aggregate_id)
    if is_same and abs(row.created_at - letter.outbox_created_at) < _SAME_TIME:
        return DeadLetter(**{**vars(letter), "outbox_created_at": row.created_at})
    return letter


async def take_over(
    redis: RedisLog, connection: Connection, settings: PostgresSettings, prefix: str, *, remove: bool, dry_run: bool
) -> Imported:
    """Take the entries of all lists over as dead letters; run again, it changes nothing.

    With `remove`, entries that were read leave their list. With `dry_run`, nothing is written anywhere.
    """
    done = Imported()
    for key in await _lists(redis, prefix):
        start, length = 0, int(await redis.call("LLEN", key))
        kept: list[Found] = []
        while start < length:
            raws = await redis.call("LRANGE", key, start, start + PAGE_ENTRIES - 1)
            page = [Found(key, raw) for raw in raws]
            with postgres.translated(settings):
                kept += await _page(connection, page, done, dry_run=dry_run)
            start += PAGE_ENTRIES
        if remove and not dry_run:
            for found in kept:  # committed: each page was a transaction
                done.removed += int(await redis.call("LREM", key, 1, found.raw))
    return done


async def _page(connection: Connection, page: Sequence[Found], done: Imported, *, dry_run: bool) -> list[Found]:
    """One page in one transaction; the entries that are done with: letters now, or the relay's affair."""
    letters = [(found, letter_of(found)) for found in page]
    done.unreadable += [found for found, letter in letters if letter is None]
    async with connection.transaction():
        ids = [letter.outbox_id for _found, letter in letters if letter is not None]
        rows = {row["id"]: OutboxPlace(*list(row.values())[1:]) for row in await _rows(connection, ids)}
        taken: list[DeadLetter] = []
        for _found, letter in letters:
            if letter is None:
                continue
            row = rows.get(OutboxId(letter.outbox_id or 0))
            exact = placed(letter, row)
            is_there = row is not None and exact.outbox_created_at == row.created_at
            if is_there and row is not None and not row.processed:
                done.waiting += 1
                continue
            done.gone_rows += not is_there
            taken.append(exact)
        added = 0 if dry_run else await add_missing(connection, taken)
    done.added += added
    done.known += len(taken) - added
    return [found for found, letter in letters if letter is not None]


async def _rows(connection: Connection, ids: Sequence[int | None]) -> Sequence[Any]:
    return list(await connection.fetch(_ROWS, ids)) if ids else []


async def _lists(redis: RedisLog, prefix: str) -> list[str]:
    found: set[str] = set()
    cursor = b"0"
    while True:
        cursor, keys = await redis.call("SCAN", cursor, "MATCH", f"{prefix}:dlq:*", "COUNT", 1000, "TYPE", "list")
        found |= {key.decode() for key in keys}
        if cursor in (b"0", 0):
            return sorted(
                key for key in found if key.removeprefix(f"{prefix}:dlq:").partition(":")[0] not in _NOT_LETTERS
            )


def _tenant(payload: str) -> str:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return ""
    tenant = document.get("tenant_id") if isinstance(document, Mapping) else None
    return str(tenant) if isinstance(tenant, str | int) else ""
