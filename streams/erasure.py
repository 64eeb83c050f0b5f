"""Erasing a tenant from what PostgreSQL and Redis hold of it: dead letters, rows on hold, entries of streams.

Where it stands: `headrace.erasing` goes through all places; those of tables are `headrace.erase_tables`. Each function
may be repeated, and does the rest of what an interrupted one left.

The outbox is not ours: its rows stay. Those of the tenant that wait on hold are marked as processed, so that nothing
more is published of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.errors import QueryError
from contracts.names import LOCAL_LIMITS, RESERVED_TENANT_PREFIX, Stream, redis_stream
from contracts.said import said_tenant
from contracts.text import has_control

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.postgres import Connection
    from streams.redis_log import Entry, RedisLog

BATCH = 1_000

_BEGIN = """
INSERT INTO headrace.tenant_audit (actor, move, tenant_id, why) VALUES ($1, 'erase', $2, $3) RETURNING id"""
_OPEN = """
SELECT id FROM headrace.tenant_audit a WHERE tenant_id = $1 AND move = 'erase' AND NOT EXISTS (
    SELECT FROM headrace.tenant_audit b WHERE b.tenant_id = $1 AND b.move = 'erased' AND b.id > a.id
) ORDER BY id DESC LIMIT 1"""
_END = "INSERT INTO headrace.tenant_audit (actor, move, tenant_id, why) VALUES ($1, 'erased', $2, $3)"
_NAMED = """
SELECT set_config('headrace.actor', $1, true), set_config('headrace.why', $2, true),
    set_config('headrace.erasing', 'yes', true)"""
_LETTERS = "SELECT count(*) FROM headrace.dead_letter WHERE tenant_id = $1"
_ERASE_LETTERS = """
DELETE FROM headrace.dead_letter WHERE id IN (
    SELECT id FROM headrace.dead_letter WHERE tenant_id = $1 ORDER BY id LIMIT $2 FOR UPDATE
) RETURNING id"""
# An aggregate of several tenants stands in the queue of one of them: its payload says whose a row is. Requeued rows
# stand in nobody's until a relay takes them up.
_HELD = """
SELECT h.outbox_id, o.payload::text AS payload FROM headrace.hold h
JOIN outbox o ON o.id = h.outbox_id AND o.created_at = h.created_at
WHERE h.tenant_id IN ($1, '') AND h.outbox_id > $2 ORDER BY h.outbox_id LIMIT $3"""
# Marked as of long ago: what was marked lately, a relay arms once more when Redis forgets it. A relay that serves one
# of these rows has it locked before it touches its hold; so does this.
_RELEASE = """
WITH locked AS MATERIALIZED (
    SELECT id, created_at FROM outbox WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE
), held AS (
    DELETE FROM headrace.hold h USING locked WHERE h.outbox_id = locked.id AND h.created_at = locked.created_at
    RETURNING h.outbox_id, h.created_at
)
UPDATE outbox o SET processed = true, processed_at = 'epoch', updated_at = clock_timestamp()
FROM held WHERE o.id = held.outbox_id AND o.created_at = held.created_at AND o.processed IS NOT TRUE RETURNING o.id"""
_FORGET_QUOTA = "DELETE FROM headrace.tenant_bucket WHERE tenant_id = $1"


def check_tenant(tenant: str) -> None:
    """Raise QueryError for an id that no tenant of yours can have."""
    if not 1 <= len(tenant) <= LOCAL_LIMITS.id_chars or has_control(tenant):
        raise QueryError("tenant", f"must have 1 to {LOCAL_LIMITS.id_chars} characters, none a control one", tenant)
    if tenant.startswith(RESERVED_TENANT_PREFIX):
        raise QueryError("tenant", f"must not begin with {RESERVED_TENANT_PREFIX!r}: those are Headrace's own", tenant)


# --- who asked -------------------------------------------------------------------------------------------------------


async def unfinished(connection: Connection, tenant: str) -> str | None:
    """The name of an erasure that was begun and not ended; None: there is none."""
    found = await connection.fetchval(_OPEN, tenant)
    return None if found is None else f"erase-{found}"


async def begin(connection: Connection, tenant: str, *, why: str, by: str) -> str:
    """Note in the audit that an erasure begins; its name."""
    return f"erase-{await connection.fetchval(_BEGIN, by, tenant, why)}"


async def end(connection: Connection, tenant: str, *, why: str, by: str) -> None:
    """Note in the audit that it is done."""
    await connection.execute(_END, by, tenant, why)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


async def letters(connection: Connection, tenant: str) -> int:
    """How many dead letters of the tenant there are, in any state."""
    return int(await connection.fetchval(_LETTERS, tenant))


async def erase_letters(connection: Connection, tenant: str, *, why: str, by: str) -> int:
    """Delete the tenant's dead letters in any state, BATCH a transaction; each leaves a line in the audit."""
    erased = 0
    while True:
        async with connection.transaction():
            await connection.execute(_NAMED, by, why)
            gone = len(await connection.fetch(_ERASE_LETTERS, tenant, BATCH))
        erased += gone
        if gone < BATCH:
            return erased


async def holds(connection: Connection, tenant: str) -> int:
    """How many of the tenant's rows of the outbox are on hold."""
    count = 0
    async for found in _held(connection, tenant):
        count += len(found)
    return count


async def release_holds(connection: Connection, tenant: str) -> int:
    """Have nothing of the tenant published that is on hold now; its quota's account goes with it."""
    count = 0
    async for found in _held(connection, tenant):
        async with connection.transaction():
            count += len(await connection.fetch(_RELEASE, found))
    await connection.execute(_FORGET_QUOTA, tenant)
    return count


async def _held(connection: Connection, tenant: str) -> AsyncIterator[list[int]]:
    after = -1
    while rows := await connection.fetch(_HELD, tenant, after, BATCH):
        after = rows[-1]["outbox_id"]
        mine = [row["outbox_id"] for row in rows if said_tenant(row["payload"].encode()) == tenant]
        if mine:
            yield mine


# --- Redis -----------------------------------------------------------------------------------------------------------


async def entries(redis: RedisLog, prefix: str, tenant: str) -> int:
    """How many entries of the tenant the streams hold, those that wait for its quota among them."""
    count = 0
    for stream in Stream:
        async for found in _entries(redis, redis_stream(prefix, stream), tenant):
            count += len(found)
        count += int(await redis.call("XLEN", _parked(prefix, stream, tenant)))
    return count


async def erase_entries(redis: RedisLog, prefix: str, tenant: str) -> int:
    """Delete the tenant's entries. A mirror that has read some of them already brings these to Kafka still."""
    count = 0
    for stream in Stream:
        key = redis_stream(prefix, stream)
        async for found in _entries(redis, key, tenant):
            count += int(await redis.call("XDEL", key, *found))
        parked = _parked(prefix, stream, tenant)
        count += int(await redis.call("XLEN", parked))
        await redis.call("DEL", parked)
        await redis.call("SREM", parked.removesuffix(f":{tenant}"), tenant)
    return count


async def _entries(redis: RedisLog, stream: str, tenant: str) -> AsyncIterator[Sequence[str]]:
    first = "-"
    while found := await redis.read_range(stream, first, "+", BATCH):
        first = f"({found[-1].id}"
        mine = [entry.id for entry in found if _tenant_of(entry) == tenant]
        if mine:
            yield mine


def _parked(prefix: str, stream: Stream, tenant: str) -> str:
    """Drawn in `streams.parked`."""
    return f"{prefix}:mirror:{stream.value}:parked:{tenant}"


def _tenant_of(entry: Entry) -> str:
    named = entry.fields.get("tenant_id", b"").decode(errors="replace")
    return named or said_tenant(entry.fields.get("payload", b""))
