"""The relay's statements on rows that wait although they are sound, and on what stops an aggregate.

Which row is held, and where, is decided in `streams.relay_fate`. All but the looks run under the locks of the rows'
shards, so that what was read stays true until the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from streams.outbox_table import ALREADY_HELD, INTO_HOLD, SHARD
from streams.relay_fate import Aggregate, Ahead, Ground, Place
from streams.relay_plan import Seen

if TYPE_CHECKING:
    from runtime.settings_relay import Poison
    from streams.postgres import Connection, Row

# More tenants than these with rows on hold are served once others have none left.
_QUEUES = 1000

# The tenants with held rows, one index probe each: their rows may be hundreds of thousands.
_LOOK = f"""
WITH RECURSIVE queue AS (
    (SELECT tenant_id FROM headrace.hold WHERE NOT blocked ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT h.tenant_id FROM headrace.hold h WHERE NOT h.blocked AND h.tenant_id > queue.tenant_id
            ORDER BY h.tenant_id LIMIT 1)
    FROM queue WHERE queue.tenant_id IS NOT NULL
)
SELECT (SELECT coalesce(array_agg(tenant_id), '{{}}') FROM headrace.tenant_pause) AS paused,
    (SELECT coalesce(array_agg(tenant_id), '{{}}') FROM (
        SELECT tenant_id FROM queue WHERE tenant_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM headrace.tenant_pause p WHERE p.tenant_id = queue.tenant_id) LIMIT {_QUEUES}
    ) AS open) AS queues,
    EXISTS (SELECT FROM headrace.stop) AS stops, server.rewinds, server.from_id
FROM headrace.redis_server AS server"""  # noqa: S608  # only constants of this module
_PEEK = """
SELECT held.* FROM unnest($1::text[]) AS queue(tenant_id) CROSS JOIN LATERAL (
    SELECT outbox_id, shard, payload_bytes FROM headrace.hold h WHERE h.tenant_id = queue.tenant_id AND NOT h.blocked
    ORDER BY outbox_id LIMIT $2
) AS held ORDER BY outbox_id"""
# What the rows of a batch are themselves, and the first of each aggregate that is not among them.
# Nothing is looked up while nothing at all is held or stopped.
_GROUND = """
WITH anything AS MATERIALIZED (
    SELECT FROM (SELECT) AS one WHERE EXISTS (SELECT FROM headrace.hold) OR EXISTS (SELECT FROM headrace.stop)
), wanted AS (
    SELECT DISTINCT w.* FROM anything, unnest($2::text[], $3::text[]) AS w(aggregate_type, aggregate_id)
), batch AS (SELECT id FROM anything, unnest($1::bigint[]) AS b(id))
SELECT 'held' AS kind, '' AS aggregate_type, '' AS aggregate_id, h.outbox_id, h.tenant_id AS what, h.blocked
FROM batch JOIN headrace.hold h ON h.outbox_id = batch.id JOIN outbox o ON o.id = h.outbox_id
WHERE o.created_at = h.created_at
UNION ALL
SELECT 'stopped', '', '', s.outbox_id, s.policy, false
FROM batch JOIN headrace.stop s ON s.outbox_id = batch.id JOIN outbox o ON o.id = s.outbox_id
WHERE o.created_at = s.created_at
UNION ALL
SELECT 'first_held', w.*, first.*, false FROM wanted w CROSS JOIN LATERAL (
    SELECT h.outbox_id, h.tenant_id FROM headrace.hold h
    WHERE h.aggregate_type = w.aggregate_type AND h.aggregate_id = w.aggregate_id AND h.outbox_id <> ALL($1)
    ORDER BY h.outbox_id LIMIT 1) AS first
UNION ALL
SELECT 'first_stop', w.*, first.*, false FROM wanted w CROSS JOIN LATERAL (
    SELECT s.outbox_id, s.policy FROM headrace.stop s
    WHERE s.aggregate_type = w.aggregate_type AND s.aggregate_id = w.aggregate_id AND s.outbox_id <> ALL($1)
    ORDER BY s.outbox_id LIMIT 1) AS first"""
_HOLD = f"""
{INTO_HOLD}
SELECT o.id, o.created_at, {SHARD}, o.aggregate_type, o.aggregate_id, octet_length(o.payload::text), w.queue, w.blocked
FROM unnest($1::bigint[], $2::text[], $3::boolean[]) AS w(id, queue, blocked) JOIN outbox o USING (id)
{ALREADY_HELD}"""  # noqa: S608  # constants
_STOP = f"""
INSERT INTO headrace.stop (outbox_id, created_at, shard, aggregate_type, aggregate_id, policy)
SELECT o.id, o.created_at, {SHARD}, o.aggregate_type, o.aggregate_id, w.policy
FROM unnest($1::bigint[], $2::text[]) AS w(id, policy) JOIN outbox o USING (id)
ON CONFLICT (outbox_id) DO UPDATE SET created_at = excluded.created_at, shard = excluded.shard,
    aggregate_type = excluded.aggregate_type, aggregate_id = excluded.aggregate_id, policy = excluded.policy"""  # noqa: S608  # the same
_RELEASE = "DELETE FROM headrace.hold WHERE outbox_id = ANY($1::bigint[])"
_LIFT = """
DELETE FROM headrace.stop WHERE outbox_id = ANY($1::bigint[]) RETURNING aggregate_type, aggregate_id"""
_UNBLOCK = """
UPDATE headrace.hold h SET blocked = false FROM unnest($1::text[], $2::text[]) AS w(aggregate_type, aggregate_id)
WHERE h.aggregate_type = w.aggregate_type AND h.aggregate_id = w.aggregate_id AND h.blocked AND NOT EXISTS (
    SELECT FROM headrace.stop s WHERE s.aggregate_type = h.aggregate_type AND s.aggregate_id = h.aggregate_id
        AND s.outbox_id < h.outbox_id)"""
_OPEN_LETTER = """EXISTS (SELECT FROM headrace.dead_letter d WHERE d.outbox_id = s.outbox_id
    AND d.outbox_created_at = s.created_at AND d.state IN ('dead', 'requeued'))"""
_CLOSED = f"SELECT DISTINCT s.shard FROM headrace.stop s WHERE NOT {_OPEN_LETTER}"  # noqa: S608  # constants
_LIFT_CLOSED = f"""
DELETE FROM headrace.stop s WHERE s.shard = ANY($1::smallint[]) AND NOT {_OPEN_LETTER}
RETURNING s.aggregate_type, s.aggregate_id"""  # noqa: S608  # constants
_HELD = """
SELECT count(*) FILTER (WHERE NOT blocked) AS waiting, count(*) FILTER (WHERE blocked) AS blocked
FROM (SELECT blocked FROM headrace.hold LIMIT $1) AS counted"""


class Look(NamedTuple):
    """What concerns all relays.

    `paused` tenants; `queues`: tenants with held rows that are not paused; whether any aggregate is `stopped`. After
    `rewinds` losses of Redis, rows above `from_id` are to be looked at again (`streams.relay_rewind`).
    """

    paused: frozenset[str]
    queues: tuple[str, ...]
    stops: bool
    rewinds: int
    from_id: int


class HeldCount(NamedTuple):
    """Rows on hold: those that wait for their tenant, and those that are behind a stop."""

    waiting: int
    blocked: int


async def look(connection: Connection) -> Look:
    """What is paused, held and stopped now. Locks nothing."""
    row = await connection.fetchrow(_LOOK)
    return Look(frozenset(row["paused"]), tuple(row["queues"]), row["stops"], row["rewinds"], row["from_id"])


async def peek(connection: Connection, queues: Sequence[str], limit: int) -> list[Seen]:
    """The first held rows of each queue, at most `limit` in all (but one of each), in order of id. Locks nothing."""
    rows = await connection.fetch(_PEEK, queues, max(1, limit // len(queues)))
    return [Seen(row["outbox_id"], row["shard"], row["payload_bytes"]) for row in rows]


async def ground(connection: Connection, ids: Sequence[int], aggregates: Sequence[Aggregate]) -> Ground:
    """What stands before the rows of a batch, given by their ids and aggregates."""
    types, names = [each[0] for each in aggregates], [each[1] for each in aggregates]
    held: dict[int, Place] = {}
    stopped: dict[int, Poison] = {}
    first_held: dict[Aggregate, Ahead] = {}
    first_stop: dict[Aggregate, Ahead] = {}
    for row in await connection.fetch(_GROUND, ids, types, names):
        aggregate, row_id, what = (row["aggregate_type"], row["aggregate_id"]), row["outbox_id"], row["what"]
        match row["kind"]:
            case "held":
                held[row_id] = Place(what, row["blocked"])
            case "stopped":
                stopped[row_id] = what
            case "first_held":
                first_held[aggregate] = Ahead(row_id, what)
            case _:
                first_stop[aggregate] = Ahead(row_id, what)
    return Ground(held, stopped, first_held, first_stop)


async def hold(connection: Connection, places: Mapping[int, Place]) -> None:
    """Put rows on hold, or elsewhere when they are already."""
    if places:
        queues, blocked = [place.queue for place in places.values()], [place.blocked for place in places.values()]
        await connection.execute(_HOLD, list(places), queues, blocked)


async def stop(connection: Connection, policies: Mapping[int, Poison]) -> None:
    """Let each of these rows stop its aggregate by its policy."""
    if policies:
        await connection.execute(_STOP, list(policies), list(policies.values()))


async def release(connection: Connection, ids: Sequence[int]) -> None:
    """Rows are on hold no more."""
    if ids:
        await connection.execute(_RELEASE, ids)


async def lift(connection: Connection, ids: Sequence[int]) -> None:
    """These rows stop nothing any more; what no other stop keeps back goes to its queue."""
    if ids:
        await _unblock(connection, await connection.fetch(_LIFT, ids))


async def shards_of_closed_stops(connection: Connection) -> list[int]:
    """Shards with stops whose letters are closed. Locks nothing."""
    return [row["shard"] for row in await connection.fetch(_CLOSED)]


async def lift_closed(connection: Connection, shards: Sequence[int]) -> None:
    """As `lift`, of all stops of these shards whose letters are closed."""
    await _unblock(connection, await connection.fetch(_LIFT_CLOSED, shards))


async def held(connection: Connection, limit: int) -> HeldCount:
    """How many rows are on hold, counted up to `limit`."""
    row = await connection.fetchrow(_HELD, limit)
    return HeldCount(row["waiting"], row["blocked"])


async def _unblock(connection: Connection, aggregates: Sequence[Row]) -> None:
    types, names = [row["aggregate_type"] for row in aggregates], [row["aggregate_id"] for row in aggregates]
    await connection.execute(_UNBLOCK, types, names)
