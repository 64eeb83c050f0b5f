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
INSERT INTO headrace.tenant_pause (tenant_id, reason, paused_by) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id) DO NOTHING RETURNING tenant_id"""
_RESUME = "DELETE FROM headrace.tenant_pause WHERE tenant_id = $1 RETURNING tenant_id"
_LIST = """
SELECT tenant_id, coalesce(rows, 0) AS rows, coalesce(blocked, 0) AS blocked, oldest_at, paused_at, paused_by, reason
FROM (
    SELECT tenant_id, count(*) FILTER (WHERE NOT h.blocked) AS rows, count(*) FILTER (WHERE h.blocked) AS blocked,
        min(created_at) AS oldest_at
    FROM headrace.hold h GROUP BY tenant_id
) AS held FULL JOIN headrace.tenant_pause USING (tenant_id)
ORDER BY paused_at, rows DESC, tenant_id LIMIT $1"""


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
    reason: str | None


async def pause(connection: Connection, tenant_id: str, *, reason: str, by: str) -> bool:
    """Hold a tenant's rows from now on; False when it was paused already, and then nothing changes.

    Raises:
        QueryError: no tenant can have this id.
    """
    _check(tenant_id)
    return await connection.fetchval(_PAUSE, tenant_id, reason, by) is not None


async def resume(connection: Connection, tenant_id: str) -> bool:
    """Let a tenant's rows go, the oldest first; False when it was not paused."""
    _check(tenant_id)
    return await connection.fetchval(_RESUME, tenant_id) is not None


async def states(connection: Connection, limit: int) -> list[TenantState]:
    """Tenants that are paused or have rows on hold, the longest paused first."""
    return [
        TenantState(
            row["tenant_id"],
            row["rows"],
            row["blocked"],
            row["oldest_at"],
            row["paused_at"],
            row["paused_by"],
            row["reason"],
        )
        for row in await connection.fetch(_LIST, limit)
    ]


def _check(tenant_id: str) -> None:
    if not 1 <= len(tenant_id) <= LOCAL_LIMITS.id_chars or has_control(tenant_id):
        limit = f"must have 1 to {LOCAL_LIMITS.id_chars} characters and no control character"
        raise QueryError("tenant", limit, tenant_id)
