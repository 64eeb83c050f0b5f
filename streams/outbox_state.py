"""What operators see of the outbox: how much waits and why, what is stopped, and what became of Redis. Only reads."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from streams import hold_table, outbox_table

if TYPE_CHECKING:
    from streams.postgres import Connection

# More rows than these are only told as "more".
COUNTED_ROWS = 1_000_001

_STOPS = """
SELECT s.aggregate_type, s.aggregate_id, s.policy, s.outbox_id, s.stopped_at, d.id AS letter_id, d.error_class,
    (SELECT count(*) FROM headrace.hold h WHERE h.aggregate_type = s.aggregate_type
        AND h.aggregate_id = s.aggregate_id AND h.blocked) AS rows_behind
FROM (
    SELECT DISTINCT ON (aggregate_type, aggregate_id) * FROM headrace.stop
    ORDER BY aggregate_type, aggregate_id, outbox_id
) AS s
LEFT JOIN headrace.dead_letter d ON d.outbox_id = s.outbox_id AND d.outbox_created_at = s.created_at
ORDER BY s.stopped_at LIMIT $1"""
_REDIS = """
SELECT rewinds, rewound_at, (SELECT max(at) FROM headrace.redis_note) AS noted_at
FROM headrace.redis_server"""


class Stop(NamedTuple):
    """An aggregate that a buried row has stopped: the first such row, its letter, and how many rows wait behind."""

    aggregate_type: str
    aggregate_id: str
    policy: str
    outbox_id: int
    stopped_at: datetime
    letter_id: int | None
    error_class: str | None
    rows_behind: int


class OutboxState(NamedTuple):
    """Counts up to COUNTED_ROWS.

    `waiting_rows` are about to be published, the oldest for `oldest_s` seconds; `held_rows` wait for their tenant,
    `blocked_rows` behind a stop. Rows were armed again `rewinds` times because of Redis, last at `rewound_at`; how far
    Redis has come was last noted at `noted_at`, about a second ago while a relay runs.
    """

    waiting_rows: int
    oldest_s: float
    held_rows: int
    blocked_rows: int
    rewinds: int
    rewound_at: datetime | None
    noted_at: datetime | None


async def state(connection: Connection) -> OutboxState:
    """The state now."""
    waiting = await outbox_table.waiting(connection, await outbox_table.read_hint(connection), COUNTED_ROWS)
    held = await hold_table.held(connection, COUNTED_ROWS)
    redis = await connection.fetchrow(_REDIS)
    return OutboxState(
        waiting.rows,
        waiting.oldest_s,
        held.waiting,
        held.blocked,
        redis["rewinds"],
        redis["rewound_at"],
        redis["noted_at"],
    )


async def stops(connection: Connection, limit: int) -> list[Stop]:
    """Stopped aggregates, the longest first."""
    return [Stop(*row) for row in await connection.fetch(_STOPS, limit)]
