"""Once a second: how many outbox rows wait and since when, as metrics and for the page.

It has its own connection, so that the lag is told while the relay waits for a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from contracts.errors import ServerMissing
from runtime.lag import StageLag
from streams import hold_table, outbox_table, postgres

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import PostgresSettings
    from streams.postgres import Connection
    from streams.redis_log import RedisLog
    from streams.relay_metrics import RelayMetrics

PART = "relay"
_EVERY_S = 1.0
# A longer queue is only told as "more": counting it would cost more than it says.
_COUNTED_ROWS = 10_001
_COUNTED_HELD = 100_001


class RelayLag:
    """Tells the outbox lag, of rows above `from_id()`: history is not gone through each second."""

    def __init__(
        self,
        settings: PostgresSettings,
        redis: RedisLog,
        metrics: RelayMetrics,
        clock: Clock,
        from_id: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._metrics = metrics
        self._clock = clock
        self._from_id = from_id
        self._connection: Connection | None = None

    async def run(self) -> None:
        """Tell once a second until cancelled. A failure is passed over: the relay itself says what is missing."""
        try:
            while True:
                with suppress(ServerMissing):
                    await self._tell()
                await asyncio.sleep(_EVERY_S)
        finally:
            await self._hang_up()

    async def _tell(self) -> None:
        waiting, held = await self._asked()
        self._metrics.waiting_rows.set(waiting.rows)
        self._metrics.oldest_seconds.set(waiting.oldest_s)
        self._metrics.held_rows.labels("tenant").set(held.waiting)
        self._metrics.held_rows.labels("stop").set(held.blocked)
        lag = StageLag(waiting.rows, waiting.oldest_s, self._clock.wall_s())
        await self._redis.write_lag(PART, lag.to_json())

    async def _asked(self) -> tuple[outbox_table.Waiting, hold_table.HeldCount]:
        try:
            if self._connection is None:
                self._connection = await postgres.connect(self._settings, name="headrace-relay-lag")
                with postgres.translated(self._settings):
                    await outbox_table.prepare(self._connection)
            with postgres.translated(self._settings):
                waiting = await outbox_table.waiting(self._connection, self._from_id(), _COUNTED_ROWS)
                return waiting, await hold_table.held(self._connection, _COUNTED_HELD)
        except ServerMissing:
            await self._hang_up()
            raise

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await postgres.close(connection)
