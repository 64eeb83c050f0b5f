"""The relay's statements on notes of Redis, and on rows that Redis has to get again. No decision is made here."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from streams.outbox_table import ALREADY_HELD, INTO_HOLD, SHARD
from streams.rewind_plan import Note

if TYPE_CHECKING:
    from streams.postgres import Connection

# A statement over so many ids takes some tens of milliseconds.
_CHUNK_IDS = 50_000

_KEEP = """
INSERT INTO headrace.redis_note (at, last_ids, mirrored_to) VALUES ($1, $2::text::json, $3)
ON CONFLICT (at) DO NOTHING"""
_ALL = "SELECT at, last_ids::text AS last_ids, mirrored_to FROM headrace.redis_note ORDER BY at DESC"
# Also keeps two relays from beginning again at the same time.
_SERVER = "SELECT run_id, rewinds, from_id FROM headrace.redis_server FOR UPDATE"
_AGREE = "UPDATE headrace.redis_server SET run_id = $1"
_REWOUND = """
UPDATE headrace.redis_server SET run_id = $1, rewinds = rewinds + 1, from_id = $2, rewound_at = clock_timestamp()"""
_BACK = "UPDATE headrace.scan_hint SET low_id = least(low_id, $1)"
_LOWEST = """
SELECT (SELECT min(least(lowest_id, lowest_id_before)) FROM headrace.shard) AS lowest,
    (SELECT coalesce(max(id), 0) FROM outbox) AS top"""
# What was buried was never in Redis. A row that stands before held ones of its aggregate joins them: they are served
# apart from the table, and must not go out before it.
_REARM = f"""
WITH armed AS (
    UPDATE outbox o SET processed = false, processed_at = NULL, updated_at = clock_timestamp()
    WHERE o.id > $1 AND o.id <= $2 AND o.processed IS TRUE AND o.processed_at > $3 AND NOT EXISTS (
        SELECT FROM headrace.dead_letter d
        WHERE d.outbox_id = o.id AND d.outbox_created_at = o.created_at AND d.state <> 'recovered')
    RETURNING o.id, o.aggregate_type, o.aggregate_id
), held AS (
    {INTO_HOLD}
    SELECT o.id, o.created_at, {SHARD}, o.aggregate_type, o.aggregate_id, octet_length(o.payload::text), '', false
    FROM armed JOIN outbox o USING (id) WHERE EXISTS (
        SELECT FROM headrace.hold h WHERE h.aggregate_type = armed.aggregate_type
            AND h.aggregate_id = armed.aggregate_id AND h.outbox_id > armed.id)
    {ALREADY_HELD}
)
SELECT count(*) AS rows, min(id) AS first_id FROM armed"""  # noqa: S608  # only constants of this module


class Server(NamedTuple):
    """The Redis process agreed on, how often rows were armed again, and from which id on the last time."""

    run_id: str
    rewinds: int
    from_id: int


class Armed(NamedTuple):
    """How many rows wait once more, and the first of them (None: none does)."""

    rows: int
    first_id: int | None


async def now(connection: Connection) -> datetime:
    """PostgreSQL's own time."""
    at: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return at


async def notes(connection: Connection) -> list[Note]:
    """All that are kept, newest first."""
    rows = await connection.fetch(_ALL)
    return [Note(row["at"], json.loads(row["last_ids"]), row["mirrored_to"]) for row in rows]


async def keep(connection: Connection, note: Note) -> None:
    """Store a note."""
    await connection.execute(_KEEP, note.at, json.dumps(dict(note.last_ids)), note.mirrored_to)


async def times(connection: Connection) -> list[datetime]:
    """When notes were made."""
    return [row["at"] for row in await connection.fetch("SELECT at FROM headrace.redis_note")]


async def drop(connection: Connection, going: list[datetime]) -> None:
    """Forget notes."""
    await connection.execute("DELETE FROM headrace.redis_note WHERE at = ANY($1::timestamptz[])", going)


async def locked_server(connection: Connection) -> Server:
    """What relays have agreed on; they wait for each other here until the transaction ends."""
    row = await connection.fetchrow(_SERVER)
    return Server(row["run_id"], row["rewinds"], row["from_id"])


async def agree(connection: Connection, run_id: str) -> None:
    """Nothing was lost: this is the process to talk to."""
    await connection.execute(_AGREE, run_id)


async def rearm_since(connection: Connection, run_id: str, since: datetime) -> Armed:
    """Let all rows that were marked after `since` be published once more, and all relays look at them.

    Waits until each batch under way has ended, as its rows may be among them; needs an open transaction.
    """
    await connection.execute("SELECT shard FROM headrace.shard ORDER BY shard FOR UPDATE")
    lowest, top = await connection.fetchrow(_LOWEST)
    rows, first_id = 0, None
    low = (top if lowest is None else lowest) - 1
    while low < top:
        armed = await connection.fetchrow(_REARM, low, low + _CHUNK_IDS, since)
        rows += armed["rows"]
        first_id = armed["first_id"] if first_id is None else first_id
        low += _CHUNK_IDS
    from_id = top if first_id is None else first_id - 1
    await connection.execute(_REWOUND, run_id, from_id)
    await connection.execute(_BACK, from_id)
    return Armed(rows, first_id)
