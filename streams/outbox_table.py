r"""The relay's statements on the outbox and on the shards. No decision is made here.

The outbox belongs to the ordering product: it is read, its rows are locked and marked, nothing else. Payloads are taken
as text and never looked into in SQL: one \u0000 in a row makes `payload->>'x'` fail for the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from contracts.names import OutboxId
from contracts.outbox import OutboxRow
from streams.relay_plan import Scan, Seen

if TYPE_CHECKING:
    from streams.postgres import Connection

# Highest id and waiting rows in one statement, so as of one snapshot. At least one row comes back.
_PEEK = """
SELECT top.id AS top_id, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax, waiting.*
FROM (SELECT coalesce(max(id), 0) AS id FROM outbox) AS top
LEFT JOIN LATERAL (
    SELECT id, (hashtextextended(aggregate_type || E'\\x1f' || aggregate_id, 0) & 63)::integer AS shard,
        octet_length(payload::text) AS payload_bytes
    FROM outbox WHERE processed IS NOT TRUE AND id > $1::bigint AND id <= $2::bigint ORDER BY id LIMIT $3
) AS waiting ON true
ORDER BY waiting.id"""
# In the order that was asked for, passing over what another relay holds.
_LOCK_SHARDS = """
SELECT shard FROM unnest($1::smallint[]) WITH ORDINALITY AS wanted(shard, place) JOIN headrace.shard USING (shard)
ORDER BY place LIMIT $2 FOR UPDATE OF shard SKIP LOCKED"""
# A statement of its own after the shards are locked: its snapshot sees what their last holder has marked.
# Rows are waited for, never skipped: that would publish an aggregate's second row before its first.
_CLAIM = """
SELECT id, aggregate_type, aggregate_id, event_type, payload::text AS payload, created_at
FROM outbox WHERE id = ANY($1::bigint[]) AND processed IS NOT TRUE ORDER BY id FOR NO KEY UPDATE"""
_MARK = """
WITH ran AS (UPDATE headrace.shard SET last_run = clock_timestamp() WHERE shard = ANY($2::smallint[]))
UPDATE outbox SET processed = true, processed_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = ANY($1::bigint[]) AND processed IS NOT TRUE"""
_KEEP_HINT = "UPDATE headrace.scan_hint SET low_id = $1"
_WAITING = """
SELECT count(*) AS rows, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_s
FROM (SELECT created_at FROM outbox WHERE processed IS NOT TRUE AND id > $1::bigint ORDER BY id LIMIT $2) AS waiting"""


class Waiting(NamedTuple):
    """How many rows wait, and how long the oldest of them has, in seconds since its transaction began."""

    rows: int
    oldest_s: float


class Peeked(NamedTuple):
    """The table's highest id, the snapshot's bounds, and the first waiting rows of a scan in order of id."""

    top_id: int
    xmin: int
    xmax: int
    seen: list[Seen]


async def peek(connection: Connection, scan: Scan, limit: int) -> Peeked:
    """Look at up to `limit` waiting rows of `scan`. Locks nothing."""
    rows = await connection.fetch(_PEEK, scan.after_id, scan.up_to_id, limit)
    top_id, xmin, xmax = rows[0]["top_id"], rows[0]["xmin"], rows[0]["xmax"]
    return Peeked(
        top_id, xmin, xmax, [Seen(r["id"], r["shard"], r["payload_bytes"]) for r in rows if r["id"] is not None]
    )


async def lock_shards(connection: Connection, shards: Sequence[int], limit: int) -> list[int]:
    """Lock up to `limit` of the shards until the transaction ends; those that another relay holds are left out."""
    return [row["shard"] for row in await connection.fetch(_LOCK_SHARDS, shards, limit)]


async def claim(connection: Connection, ids: Sequence[int]) -> list[OutboxRow]:
    """Lock those of the rows that still wait, and read them, in order of id.

    Waits for whoever else holds one of them, at most `postgres.lock_timeout_s`.
    """
    rows = await connection.fetch(_CLAIM, ids)
    return [
        OutboxRow(
            OutboxId(r["id"]), r["aggregate_type"], r["aggregate_id"], r["event_type"], r["payload"], r["created_at"]
        )
        for r in rows
    ]


async def mark(connection: Connection, ids: Sequence[int], shards: Sequence[int]) -> None:
    """Mark rows as processed, and note that their shards were served."""
    await connection.execute(_MARK, ids, shards)


async def read_hint(connection: Connection) -> int:
    """Where to begin to look; 0 at first."""
    return int(await connection.fetchval("SELECT low_id FROM headrace.scan_hint"))


async def keep_hint(connection: Connection, low_id: int) -> None:
    """Store where to begin to look."""
    await connection.execute(_KEEP_HINT, low_id)


async def waiting(connection: Connection, low_id: int, limit: int) -> Waiting:
    """Rows above `low_id` that wait, counted up to `limit`."""
    row = await connection.fetchrow(_WAITING, low_id, limit)
    return Waiting(row["rows"], max(0.0, row["oldest_s"]))
