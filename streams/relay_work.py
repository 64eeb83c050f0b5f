"""One batch of the relay, from its locked shards to its commit: steps 2 to 7 of `streams.relay`.

What becomes of each row is judged in `streams.relay_fate`; here it is carried out, in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from contracts.outbox import OutboxRow
from runtime.logs import get_logger
from streams import dead_letters, hold_table, outbox_table, relay_batch, relay_plan
from streams.hold_table import Look
from streams.relay_batch import Batch
from streams.relay_fate import judge
from streams.relay_plan import Lane, Scan, Seen
from streams.tenant_quota import TenantQuota

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.postgres import Connection
    from streams.redis_log import NewEntry, Published, RedisLog
    from streams.relay_metrics import RelayMetrics

_log = get_logger(__name__)


class Work:
    """Carries out batches for one relay."""

    def __init__(self, settings: Settings, redis: RedisLog, metrics: RelayMetrics, clock: Clock) -> None:
        self._settings = settings
        self._redis = redis
        self._metrics = metrics
        self._clock = clock
        self.quota = TenantQuota(settings.relay, settings.postgres, clock)
        # Published and committed, but the markers were not told to expire yet.
        self._unexpired: list[NewEntry] = []
        self._last_shards: frozenset[int] = frozenset()

    async def deal_with(
        self, connection: Connection, scan: Scan | None, seen: Sequence[Seen], now: Look, limit: int
    ) -> int:
        """Publish, bury or hold the rows seen whose shards are free; for how many something has changed since.

        Args:
            connection: with no open transaction.
            scan: where the rows were seen; None for rows on hold.
            seen: in order of id, at most `limit`.
            now: which tenants' rows are held.
            limit: most rows to claim.

        Raises:
            ServerMissing: Redis is down; what the transaction did must be rolled back, and the rows come again.
        """
        settings, paused = self._settings.relay, now.paused
        lane = scan.lane if scan else Lane.HELD
        if lane is not Lane.HELD:
            paused |= self.quota.limited(now.queues)
        async with connection.transaction():
            shards, ids = await self._taken(connection, scan, seen, limit)
            if not ids:
                return 0
            rows = await outbox_table.claim(connection, ids)  # step 3
            batch = await self._judged(connection, rows, paused)
            published = await self._redis.publish(batch.entries)  # step 4
            published_s = self._clock.wall_s()
            if settings.wait_disk_ms and published:
                await self._redis.wait_for_disk(settings.wait_disk_ms)
            await self._keep(connection, batch)  # step 5
            # Another relay was quicker; or somebody deleted them, or marked them by hand.
            gone = set(ids) - {row.id for row in rows}
            if lane is Lane.HELD:
                await hold_table.release(connection, sorted(gone))
            await outbox_table.mark(connection, batch.done, shards, settings.rewind_history_s)  # step 6
        self._unexpired += batch.entries
        self._count(lane, batch, published, published_s)
        return len(batch.done) + len(batch.holds) + len(gone)

    async def _taken(
        self, connection: Connection, scan: Scan | None, seen: Sequence[Seen], limit: int
    ) -> tuple[list[int], list[int]]:
        """Step 2: the shards that are ours until the transaction ends, and the rows there to claim."""
        settings = self._settings.relay
        # With several relays at work, much of what was seen is another's, and may be done by now.
        again = scan if len(seen) >= limit and settings.shards < relay_plan.SHARDS else None
        wanted = relay_plan.shards_to_lock(seen, self._last_shards, more=again is not None)
        shards = await outbox_table.lock_shards(connection, wanted, settings.shards)
        self._last_shards = frozenset(shards)
        if again:
            seen = await outbox_table.peek_shards(connection, again, shards, limit)
        return shards, relay_plan.take(seen, shards, limit, settings.batch_bytes)

    async def expire(self) -> None:
        """Step 7. Raises ServerMissing, and is to be called again then."""
        if self._unexpired:
            await self._redis.expire_markers(self._unexpired, self._settings.redis.marker_ttl_s)
            self._unexpired.clear()

    async def lift_closed_stops(self, connection: Connection) -> None:
        """Let aggregates go on whose letters were recovered, discarded or purged."""
        async with connection.transaction():
            wanted = await hold_table.shards_of_closed_stops(connection)
            shards = await outbox_table.lock_shards(connection, wanted, len(wanted)) if wanted else []
            if shards:
                await hold_table.lift_closed(connection, shards)

    async def _judged(self, connection: Connection, rows: Sequence[OutboxRow], paused: frozenset[str]) -> Batch:
        settings = self._settings
        readings = relay_batch.read(rows, settings.contracts.mode)
        waiting = relay_batch.waiting(readings, settings.relay)
        ground = await hold_table.ground(
            connection, [row.id for row in waiting], sorted({row.aggregate for row in waiting})
        )
        granted: Mapping[str, int] | None = None
        if settings.relay.has_quotas:
            granted = await self.quota.take(relay_batch.wanted(waiting, ground, paused, settings.relay))
        return relay_batch.assemble(readings, judge(waiting, ground, paused, granted), ground, settings.prefix)

    async def _keep(self, connection: Connection, batch: Batch) -> None:
        await dead_letters.bury(connection, batch.letters)
        await dead_letters.rows_recovered(connection, batch.returned)
        await hold_table.release(connection, batch.released)
        await hold_table.hold(connection, batch.holds)
        await hold_table.stop(connection, batch.stops)
        await hold_table.lift(connection, batch.lifted)

    def _count(self, lane: Lane, batch: Batch, published: list[Published], published_s: float) -> None:
        metrics = self._metrics
        repeats = sum(entry.repeat for entry in published)
        metrics.relayed.labels("ok").inc(len(published) - repeats)
        metrics.relayed.labels("repeat").inc(repeats)
        metrics.relayed.labels("dead").inc(len(batch.letters))
        metrics.relayed.labels("held").inc(len(batch.holds))
        if lane in {Lane.LATE, Lane.SWEEP}:
            metrics.late_rows.labels(lane.value).inc(len(published) + len(batch.letters))
        flows = {stream: metrics.stage.labels("commit_relay", stream.value) for stream, _ in batch.published}
        for stream, created_at in batch.published:
            flows[stream].observe(max(0.0, published_s - created_at.timestamp()))
        for deviation, count in batch.deviations.items():
            metrics.deviations.labels(deviation).inc(count)
        for (stream, reason), count in batch.refused.items():
            metrics.dead_letters.labels(stream.value, reason).inc(count)
        for letter in batch.letters:
            _log.warning("row buried", outbox_id=letter.outbox_id, error=letter.error_text)
