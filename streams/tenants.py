"""What operators do with tenants at the relay: pause, resume, list.

A pause is one row; every relay sees it within a tenth of a second, and holds the tenant's rows from then on
(`streams.relay_fate`). What was published before goes its way.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import QueryError
from contracts.names import LOCAL_LIMITS
from contracts.text import has_control

if TYPE_CHECKING:
    from streams.postgres import Connection

_PAUSE = """
WITH paused AS (
    INSERT INTO headrace.tenant_pause (tenant_id, why, paused_by) VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id) DO NOTHING RETURNING tenant_id
)
INSERT INTO headrace.tenant_audit (actor, move, tenant_id, why) SELECT $3, 'pause', tenant_id, $2 FROM paused
RETURNING id"""
_RESUME = """
WITH resumed AS (DELETE FROM headrace.tenant_pause WHERE tenant_id = $1 RETURNING tenant_id)
INSERT INTO headrace.tenant_audit (actor, move, tenant_id, why) SELECT $3, 'resume', tenant_id, $2 FROM resumed
RETURNING id"""
_LIST = """
SELECT tenant_id, coalesce(held_rows, 0) AS held_rows, coalesce(blocked_rows, 0) AS blocked_rows, oldest_at, paused_at,
    paused_by, why
FROM (
    SELECT tenant_id, count(*) FILTER (WHERE NOT h.blocked) AS held_rows,
        count(*) FILTER (WHERE h.blocked) AS blocked_rows, min(created_at) AS oldest_at
    FROM headrace.hold h GROUP BY tenant_id
) AS held FULL JOIN headrace.tenant_pause USING (tenant_id)
ORDER BY paused_at, held_rows DESC, tenant_id LIMIT $1"""
_HISTORY = "SELECT at, actor, move, tenant_id, why FROM headrace.tenant_audit ORDER BY id DESC LIMIT $1"
MAX_WHY_CHARS = 500
MAX_ACTOR_CHARS = 200


class TenantState(NamedTuple):
    """A tenant that is paused or has rows on hold.

    `held_rows` wait for the tenant, `blocked_rows` for a dead letter of their aggregate; `oldest_at` is when the oldest
    of them was written. The rest is None for a tenant that is not paused. Requeued rows have an empty `tenant_id`.
    """

    tenant_id: str
    held_rows: int
    blocked_rows: int
    oldest_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    why: str | None


class Move(NamedTuple):
    """A line of the audit; `move` is pause, resume, erase (it began) or erased."""

    at: datetime
    actor: str
    move: str
    tenant_id: str
    why: str


async def pause(connection: Connection, tenant_id: str, *, why: str, by: str) -> bool:
    """Hold a tenant's rows from now on; False when it was paused already, and then nothing changes.

    Raises:
        QueryError: no tenant can have this id, or nobody said who or why.
    """
    check(tenant_id, why, by)
    return await connection.fetchval(_PAUSE, tenant_id, why, by) is not None


async def resume(connection: Connection, tenant_id: str, *, why: str, by: str) -> bool:
    """Let a tenant's rows go, the oldest first; False when it was not paused. Raises QueryError as `pause` does."""
    check(tenant_id, why, by)
    return await connection.fetchval(_RESUME, tenant_id, why, by) is not None


async def states(connection: Connection, limit: int) -> list[TenantState]:
    """Tenants that are paused or have rows on hold, the longest paused first."""
    return [TenantState(*row) for row in await connection.fetch(_LIST, limit)]


async def history(connection: Connection, limit: int) -> list[Move]:
    """Who paused and resumed whom, the newest first."""
    return [Move(*row) for row in await connection.fetch(_HISTORY, limit)]


def check(tenant_id: str, why: str, by: str) -> None:
    """Raise QueryError when no tenant can have this id, or nobody said who or why."""
    for field, text, most in (
        ("tenant", tenant_id, LOCAL_LIMITS.id_chars),
        ("why", why, MAX_WHY_CHARS),
        ("by", by, MAX_ACTOR_CHARS),
    ):
        if not text.strip() or len(text) > most or has_control(text):
            raise QueryError(
                field, f"must have 1 to {most} characters, not only blanks, and no control character", text
            )
