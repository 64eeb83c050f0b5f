r"""The relay's statements on the outbox and on the shards. No decision is made here.

The outbox belongs to the ordering product: it is read, its rows are locked and marked, nothing else. Payloads are taken
as text and never looked into in SQL: one \u0000 in a row makes `payload->>'x'` fail for the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from contracts.outbox import OutboxRow
from streams.relay_plan import Scan, Seen

if TYPE_CHECKING:
    from streams.postgres import Connection

# Which of the 64 shards the row `o` belongs to: by its aggregate.
SHARD = "(hashtextextended(o.aggregate_type || E'\\x1f' || o.aggregate_id, 0) & 63)::integer"
# Not a join: whatever the planner believes of a table that fills and empties in seconds, this is one probe a row.
_NOT_HELD = "(SELECT h.created_at FROM headrace.hold h WHERE h.outbox_id = o.id) IS DISTINCT FROM o.created_at"
# Highest id and waiting rows in one statement, so as of one snapshot. At least one row comes back.
_PEEK = f"""
SELECT top.id AS top_id, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax, waiting.*
FROM (SELECT coalesce(max(id), 0) AS id FROM outbox) AS top
LEFT JOIN LATERAL (
    SELECT o.id, {SHARD} AS shard, octet_length(o.payload::text) AS payload_bytes
    FROM outbox o WHERE o.processed IS NOT TRUE AND o.id > $1::bigint AND o.id <= $2::bigint AND {_NOT_HELD}
    ORDER BY o.id LIMIT $3
) AS waiting ON true
ORDER BY waiting.id"""  # noqa: S608  # only constants of this module
# The same rows, of some shards only; whoever holds the shards' locks sees what their last holder has marked.
_PEEK_SHARDS = f"""
SELECT o.id, {SHARD} AS shard, octet_length(o.payload::text) AS payload_bytes
FROM outbox o WHERE o.processed IS NOT TRUE AND o.id > $1::bigint AND o.id <= $2::bigint
    AND {SHARD} = ANY($3::integer[]) AND {_NOT_HELD}
ORDER BY o.id LIMIT $4"""  # noqa: S608  # only constants of this module
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
WITH ran AS (
    UPDATE headrace.shard SET last_run = now.at, (lowest_from, lowest_id, lowest_id_before) = (
        SELECT CASE WHEN old THEN now.at ELSE lowest_from END, CASE WHEN old THEN $3 ELSE least(lowest_id, $3) END,
            CASE WHEN old THEN lowest_id ELSE lowest_id_before END
        FROM (SELECT lowest_from < now.at - $4::interval AS old) AS period)
    FROM (SELECT clock_timestamp() AS at) AS now WHERE shard = ANY($2::smallint[])
)
UPDATE outbox SET processed = true, processed_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = ANY($1::bigint[]) AND processed IS NOT TRUE"""
_KEEP_HINT = "UPDATE headrace.scan_hint SET low_id = $1"
_WAITING = f"""
SELECT count(*) AS rows, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_s
FROM (SELECT o.created_at FROM outbox o WHERE o.processed IS NOT TRUE AND o.id > $1::bigint AND {_NOT_HELD}
    ORDER BY o.id LIMIT $2) AS waiting"""  # noqa: S608  # only constants of this module
INTO_HOLD = """INSERT INTO headrace.hold
    (outbox_id, created_at, shard, aggregate_type, aggregate_id, payload_bytes, tenant_id, blocked)"""
ALREADY_HELD = """ON CONFLICT (outbox_id) DO UPDATE SET created_at = excluded.created_at, shard = excluded.shard,
    aggregate_type = excluded.aggregate_type, aggregate_id = excluded.aggregate_id,
    payload_bytes = excluded.payload_bytes, tenant_id = excluded.tenant_id, blocked = excluded.blocked"""
# Rows that somebody else claims meanwhile wait for this transaction, then find them on hold.
_REARM = f"""
WITH armed AS (
    UPDATE outbox o SET processed = false, processed_at = NULL, updated_at = clock_timestamp()
    FROM unnest($1::bigint[], $2::timestamptz[]) AS w(id, created_at) WHERE o.id = w.id AND o.created_at = w.created_at
    RETURNING o.id, o.created_at, {SHARD} AS shard, o.aggregate_type, o.aggregate_id,
        octet_length(o.payload::text) AS payload_bytes
)
{INTO_HOLD}
SELECT id, created_at, shard, aggregate_type, aggregate_id, payload_bytes, '', false FROM armed
{ALREADY_HELD}
RETURNING outbox_id"""  # noqa: S608  # only constants of this module


# Plans are kept for long, and may have been made while a table was empty: a scan of the whole table for each look would
# be the end of it. Every look of ours has its index. And none is worth a plan of its own: PostgreSQL would make one
# each time, which takes two to five times as long as to carry it out.
_BY_INDEX = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan"


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


async def prepare(connection: Connection) -> None:
    """Make a new connection ready for the statements of this file and of `streams.hold_table`."""
    await connection.execute(_BY_INDEX)


async def peek(connection: Connection, scan: Scan, limit: int) -> Peeked:
    """Look at up to `limit` waiting rows of `scan`, without those on hold. Locks nothing."""
    rows = await connection.fetch(_PEEK, scan.after_id, scan.up_to_id, limit)
    top_id, xmin, xmax = rows[0]["top_id"], rows[0]["xmin"], rows[0]["xmax"]
    return Peeked(
        top_id, xmin, xmax, [Seen(r["id"], r["shard"], r["payload_bytes"]) for r in rows if r["id"] is not None]
    )


async def peek_shards(connection: Connection, scan: Scan, shards: Sequence[int], limit: int) -> list[Seen]:
    """The first `limit` waiting rows of `scan` in these shards, in order of id, without those on hold."""
    rows = await connection.fetch(_PEEK_SHARDS, scan.after_id, scan.up_to_id, shards, limit)
    return [Seen(*row) for row in rows]


async def lock_shards(connection: Connection, shards: Sequence[int], limit: int) -> list[int]:
    """Lock up to `limit` of the shards until the transaction ends; those that another relay holds are left out."""
    return [row["shard"] for row in await connection.fetch(_LOCK_SHARDS, shards, limit)]


async def claim(connection: Connection, ids: Sequence[int]) -> list[OutboxRow]:
    """Lock those of the rows that still wait, and read them, in order of id.

    Waits for whoever else holds one of them, at most `postgres.lock_timeout_s`.
    """
    rows = await connection.fetch(_CLAIM, ids)
    return [OutboxRow(*row) for row in rows]


async def mark(connection: Connection, ids: Sequence[int], shards: Sequence[int], history_s: float) -> None:
    """Mark rows as processed, and note that their shards were served, and the lowest of the rows for `history_s`."""
    await connection.execute(_MARK, ids, shards, min(ids, default=None), timedelta(seconds=history_s))


async def rearm(connection: Connection, rows: Sequence[tuple[int, datetime]]) -> set[int]:
    """Let rows, given by id and creation time, be published once more; the ids of those that are still there.

    In the caller's transaction. They go out with the next batch after its commit, before anything of their aggregate
    that waits for them; what was published without them is not waited for.
    """
    ids, times = [row_id for row_id, _ in rows], [created_at for _, created_at in rows]
    return {row["outbox_id"] for row in await connection.fetch(_REARM, ids, times)}


async def read_hint(connection: Connection) -> int:
    """Where to begin to look; 0 at first."""
    return int(await connection.fetchval("SELECT low_id FROM headrace.scan_hint"))


async def keep_hint(connection: Connection, low_id: int) -> None:
    """Store where to begin to look."""
    await connection.execute(_KEEP_HINT, low_id)


async def waiting(connection: Connection, low_id: int, limit: int) -> Waiting:
    """Rows above `low_id` that wait and are not on hold, counted up to `limit`."""
    row = await connection.fetchrow(_WAITING, low_id, limit)
    return Waiting(row["rows"], max(0.0, row["oldest_s"]))
