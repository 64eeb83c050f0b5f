"""Delete processed rows from the outbox once they are old enough. Off unless `relay.purge_after_hours` says so.

The outbox belongs to the ordering product, so nothing is deleted by default. It walks up from the lowest id, a thousand
rows a transaction, at most 5 % of the time, until it meets a piece that was written lately; a minute later it begins
again.
What stays whatever its age: rows that wait or are on hold, rows with an open dead letter (a requeue publishes the row
itself), and the row with the highest id (a relay takes a highest id that falls for a table that begins anew).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import ServerMissing
from runtime.logs import get_logger
from streams import postgres

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import PostgresSettings
    from streams.postgres import Connection
    from streams.relay_metrics import RelayMetrics

_log = get_logger(__name__)

CHUNK_ROWS = 1_000
_AGAIN_S = 60.0
# A piece that took t is followed by a pause of 19 t: one part in twenty of the time.
_REST_RATIO = 19.0
# Any number that no other program on this database is likely to use: "hr-purge" in ASCII, as a signed 64-bit integer.
_ONE_AT_A_TIME = int.from_bytes(b"hr-purge", "big", signed=True)

_PURGE = """
WITH chunk AS (
    SELECT id, created_at, created_at < clock_timestamp() - $3::interval AS written_before,
        coalesce(processed AND processed_at < clock_timestamp() - $3::interval, false) AS old
    FROM outbox WHERE id > $1::bigint ORDER BY id LIMIT $2
), gone AS (
    DELETE FROM outbox o USING chunk WHERE o.id = chunk.id AND chunk.old AND o.processed
        AND o.id < (SELECT max(id) FROM outbox) AND NOT EXISTS (
            SELECT FROM headrace.dead_letter d WHERE d.outbox_id = chunk.id AND d.outbox_created_at = chunk.created_at
                AND d.state IN ('dead', 'requeued'))
    RETURNING o.id
)
SELECT (SELECT max(id) FROM chunk) AS last_id, (SELECT count(*) FROM chunk WHERE written_before) AS old_rows,
    (SELECT count(*) FROM gone) AS deleted"""


class Purged(NamedTuple):
    """One piece: its highest id (None: the table ends before), how many rows were written long ago, how many went."""

    last_id: int | None
    old_rows: int
    deleted: int


class OutboxPurge:
    """Deletes rows for one relay; of several, one at a time does."""

    def __init__(self, settings: PostgresSettings, after_hours: float, metrics: RelayMetrics, clock: Clock) -> None:
        self._settings = settings
        self._after = timedelta(hours=after_hours)
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        """Delete until cancelled; returns at once when it is switched off. A failure is told, and tried again later."""
        while self._after:
            try:
                connection = await postgres.connect(self._settings, name="headrace-relay-purge")
                try:
                    await self.walk(connection)
                finally:
                    await postgres.close(connection)
            except ServerMissing as error:
                _log.warning("old rows of the outbox are not deleted", error=str(error))
            await asyncio.sleep(_AGAIN_S)

    async def walk(self, connection: Connection) -> int:
        """Delete all that is old now; how many rows went. Raises ServerMissing."""
        after_id, deleted = 0, 0
        while True:
            begin_s = self._clock.monotonic_s()
            piece = await self._piece(connection, after_id)
            self._metrics.purged_rows.inc(piece.deleted)
            deleted += piece.deleted
            if piece.last_id is None or not piece.old_rows:
                return deleted
            after_id = piece.last_id
            await asyncio.sleep(_REST_RATIO * (self._clock.monotonic_s() - begin_s))

    async def _piece(self, connection: Connection, after_id: int) -> Purged:
        with postgres.translated(self._settings):
            async with connection.transaction():
                if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _ONE_AT_A_TIME):
                    return Purged(None, 0, 0)
                return Purged(*await connection.fetchrow(_PURGE, after_id, CHUNK_ROWS, self._after))
