"""The relay process: committed outbox rows to Redis Streams, each once, in order within its aggregate.

Where it stands: `streams.outbox` wrote the row; here it is decoded (`streams.relay_batch`) and published
(`streams.redis_log`); `streams.mirror` takes the entry on to Kafka. One batch:

1. peek      at waiting rows, without a lock (`streams.relay_plan` says where).
2. shards    lock those of the 64 that have waiting rows and that no other relay holds; several relays at work then look
             once more, at these shards alone.
3. claim     the rows, in order of id, in a second statement: it has to see what the shards' last holder marked.
4. publish   with a marker for each row, so that a repeat after a crash is a no-op.
5. keep      rows that break their contract as dead letters, and those that must wait on hold, in this transaction.
6. mark      what was published or buried as processed, and commit.
7. expire    the markers, only now: until the commit they are what keeps a row from being published twice.

What is on hold leaves the scans; its queues are served in turn with the table (`streams.relay_fate` says when).

Before the first batch, and after each failure, is made sure that Redis has what it had (`streams.relay_rewind`).

A crash between two steps rolls the transaction back; the next relay begins at 1 and finds the markers. An outage of
either server does the same: rows stay where they are, and no retry is counted against them.

Relays share the shards of each batch: a relay takes those that wait longest and are free, at most `relay.shards`. With
the default of 64 one relay serves everything and others stand by; with 64 / n, n of them work side by side.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from contracts.errors import ServerMissing
from reliability.backoff import full_jitter_s
from runtime.logs import get_logger
from streams import hold_table, migrate, outbox_table, postgres, relay_plan
from streams.outbox_purge import OutboxPurge
from streams.redis_log import RedisLog
from streams.relay_lag import RelayLag
from streams.relay_metrics import RelayMetrics
from streams.relay_plan import Found, Lane, Scan
from streams.relay_rewind import RelayRewind
from streams.relay_work import Work

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.health import Health
    from runtime.metrics import Metrics
    from runtime.settings import Settings
    from streams.hold_table import Look
    from streams.postgres import Connection

_log = get_logger(__name__)

_READY = "relay"
_BACKOFF_BASE_S = 0.05
_BACKOFF_CAP_S = 2.0
# How often the scan hint is stored; a new relay looks at that much more.
_KEEP_HINT_S = 5.0
# How often is looked for tenants that were paused or resumed, and for stops whose letters were closed.
_LOOK_EVERY_S = 0.05
_LIFT_EVERY_S = 1.0
# While new rows come, a batch of rows that were on hold is this much smaller.
_QUEUE_SHARE = 4
# How long one wait for the doorbell is; nothing depends on it.
_BELL_WAIT_S = 1.0


async def run(settings: Settings, stop: asyncio.Event, metrics: Metrics, health: Health, clock: Clock) -> None:
    """Publish until `stop` is set, then finish the batch under way.

    Raises:
        ServerMissing: PostgreSQL or Redis does not answer at the start, or the schema is not there. Later they are
            waited for.
    """
    redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-relay")
    relay = Relay(settings, redis, RelayMetrics(metrics), health, clock)
    try:
        await relay.open()
        await relay.run(stop)
    finally:
        await relay.close()
        await redis.close()


class Relay:
    """One relay: `open`, `run`, `close`. It owns its connection to PostgreSQL, not the `redis` that it is given."""

    def __init__(
        self, settings: Settings, redis: RedisLog, metrics: RelayMetrics, health: Health, clock: Clock
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._lag = RelayLag(settings.postgres, redis, metrics, clock, lambda: self._plan.late_from_id)
        self._purge = OutboxPurge(settings.postgres, settings.relay.purge_after_hours, metrics, clock)
        self._connection: Connection | None = None
        self._plan = relay_plan.start(0, clock.monotonic_s())
        self._hint_kept: tuple[float, int] = (clock.monotonic_s(), 0)
        self._work = Work(settings, redis, metrics, clock)
        self._rewind = RelayRewind(settings, redis, metrics, clock)
        self._look: Look | None = None
        self._look_due_s = self._lift_due_s = 0.0
        self._busy = False
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Connect, and read the scan hint. Raises ServerMissing."""
        await self._redis.ping()
        connection = await self._connected()
        await migrate.check(connection, self._settings.postgres)
        with postgres.translated(self._settings.postgres):
            await self._rewind.settle(connection)
            low_id = await outbox_table.read_hint(connection)
            self._look = await hold_table.look(connection)
        self._plan = relay_plan.start(low_id, self._clock.monotonic_s())

    async def close(self) -> None:
        """Close the connections to PostgreSQL."""
        await self._work.quota.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            await postgres.close(connection)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish batch after batch until `stop` is set; listen for the doorbell and tell the lag beside it."""
        async with asyncio.TaskGroup() as group:
            tasks = (self._listen(), self._lag.run(), self._purge.run(), self._wake_on(stop))
            beside = [group.create_task(task) for task in tasks]
            await self._publish_until(stop)
            for task in beside:
                task.cancel()

    async def step(self, failures: int = 0) -> int:
        """Deal with the next batch; how many rows it had, 0 when nothing waits. Raises ServerMissing.

        It is smaller the more `failures` there were in a row.
        """
        limit = relay_plan.rows_to_take(self._settings.relay.batch_rows, failures)
        connection = await self._connected()
        await self._work.expire()
        with postgres.translated(self._settings.postgres):
            await self._rewind.note(connection)
            look = await self._looked_around(connection)
            # New rows of others do not wait for long behind those that were on hold for long anyway.
            done = await self._serve_queues(connection, look, max(1, limit // _QUEUE_SHARE) if self._busy else limit)
            while True:
                scan = relay_plan.next_scan(self._plan, self._clock.monotonic_s())
                found = await self._scanned(connection, scan, look, limit)
                # A lane that is due now and then has nothing to say about the fresh one.
                if found or scan.lane is Lane.FRESH:
                    break
            self._busy = found > 0
            await self._keep_hint(connection)
        await self._work.expire()
        return done + found

    async def _scanned(self, connection: Connection, scan: Scan, look: Look, limit: int) -> int:
        begin_s = self._clock.monotonic_s()
        top_id, xmin, xmax, seen = await outbox_table.peek(connection, scan, limit)  # step 1
        now_s = self._clock.monotonic_s()
        found = Found(top_id, seen[0].id if seen else None, now_s - begin_s, xmin, xmax)
        self._plan = relay_plan.observe(self._plan, scan, found, now_s, self._settings.relay.young_row_s)
        return await self._work.deal_with(connection, scan, seen, look, limit) if seen else 0

    async def _looked_around(self, connection: Connection) -> Look:
        """What concerns all relays, as of 50 ms ago at most."""
        now_s = self._clock.monotonic_s()
        if self._look is not None and now_s < self._look_due_s:
            return self._look
        before, self._look = self._look, await hold_table.look(connection)
        self._look_due_s = now_s + _LOOK_EVERY_S
        if before is None or before.rewinds != self._look.rewinds:
            # Somebody has armed rows again; when that was done twice, only one of the two places is known.
            once = before is not None and before.rewinds + 1 == self._look.rewinds
            self._plan = relay_plan.start(min(self._plan.low_id, self._look.from_id) if once else 0, now_s)
        if self._look.stops and now_s >= self._lift_due_s:
            await self._work.lift_closed_stops(connection)
            self._lift_due_s = now_s + _LIFT_EVERY_S
        return self._look

    async def _serve_queues(self, connection: Connection, look: Look, limit: int) -> int:
        """One batch of rows on hold that need not wait any more."""
        queues = self._work.quota.due(look.queues)
        seen = await hold_table.peek(connection, queues, limit) if queues else []
        return await self._work.deal_with(connection, None, seen, look, limit) if seen else 0

    async def _keep_hint(self, connection: Connection) -> None:
        (kept_s, kept_id), now_s = self._hint_kept, self._clock.monotonic_s()
        if self._plan.low_id != kept_id and now_s >= kept_s + _KEEP_HINT_S:
            await outbox_table.keep_hint(connection, self._plan.low_id)
            self._hint_kept = (now_s, self._plan.low_id)

    async def _publish_until(self, stop: asyncio.Event) -> None:
        failures = empty_polls = 0
        while not stop.is_set():
            fresh_id = self._plan.fresh_id
            try:
                if failures:
                    await self._settle()
                done = await self.step(failures)
            except ServerMissing as error:
                await self._wait_for_server(error, failures, stop)
                failures += 1
                continue
            if failures:
                _log.info("relay works again", failures=failures)
            failures = 0
            self._health.set_ready(_READY, ok=True)
            empty_polls = 0 if done else empty_polls + 1
            # A stretch of history without a waiting row is no reason to rest.
            if not done and not (self._plan.in_history and self._plan.fresh_id > fresh_id):
                await self._rest(empty_polls)

    async def _settle(self) -> None:
        """After a failure: Redis must be there before rows are claimed for it, and have what it had."""
        connection = await self._connected()
        with postgres.translated(self._settings.postgres):
            await self._rewind.settle(connection)
        self._look_due_s = 0.0

    async def _rest(self, empty_polls: int) -> None:
        relay = self._settings.relay
        pause_s = relay_plan.pause_s(empty_polls, poll_s=relay.poll_s, idle_poll_s=relay.idle_poll_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        self._wake.clear()

    async def _wait_for_server(self, error: ServerMissing, failures: int, stop: asyncio.Event) -> None:
        self._metrics.outages.labels(error.server).inc()
        self._health.set_ready(_READY, ok=False, detail=str(error))
        if failures == 0:
            _log.warning("relay waits for a server", error=str(error))
        # Its transaction must not stay open while we wait, nor may a half-used connection be used again.
        await self.close()
        pause_s = full_jitter_s(failures, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, clock=self._clock)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stop.wait()

    async def _connected(self) -> Connection:
        if self._connection is None:
            # A mark that a crash of PostgreSQL takes back is set again: the marker outlives it.
            connection = await postgres.connect(self._settings.postgres, name="headrace-relay", durable=False)
            with postgres.translated(self._settings.postgres):
                await outbox_table.prepare(connection)
            self._connection = connection
        return self._connection

    async def _listen(self) -> None:
        failures = 0
        while True:
            with suppress(ServerMissing):
                async with self._redis.doorbell() as bell:
                    failures = 0
                    while True:
                        if await bell.wait(_BELL_WAIT_S):
                            self._wake.set()
            # Polling goes on meanwhile.
            pause_s = full_jitter_s(failures, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, clock=self._clock)
            failures += 1
            await asyncio.sleep(pause_s)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()
