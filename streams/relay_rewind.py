"""Notices that Redis has lost entries, and lets the relay begin again where they were lost.

A relay talks to one Redis process at a time, by its run id: a connection to another one is refused before any command
is sent (`RedisLog.trust`). So whenever a connection was lost, and at the start, this comes before the next publish:

    settle   ask whoever answers now for its run id and for how far its streams have come
             same process, and no stream went back      go on
             else    arm the rows again that it may lack (`streams.rewind_plan` says since when), in one transaction
                     that waits for all batches under way, then go on: order within each aggregate holds
    note     once a second, how far the streams have come, to compare with

A Redis that loses entries without a restart (FLUSHALL) is found by the next `note`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.names import Stream, redis_stream
from runtime.lag import parse_stage
from runtime.logs import get_logger
from streams import parked, rewind_plan, rewind_table
from streams.redis_log import START
from streams.rewind_plan import Note

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.postgres import Connection
    from streams.redis_log import RedisLog
    from streams.relay_metrics import RelayMetrics

_log = get_logger(__name__)

NOTE_EVERY_S = 1.0
# Parts of the lag that mirrors write.
_MIRRORS = "mirror:"


class RelayRewind:
    """The memory that one relay has of its Redis. It owns nothing."""

    def __init__(self, settings: Settings, redis: RedisLog, metrics: RelayMetrics, clock: Clock) -> None:
        self._history_s = settings.relay.rewind_history_s
        self._prefix = settings.prefix
        self._streams = {stream.value: redis_stream(settings.prefix, stream) for stream in Stream}
        self._redis = redis
        self._metrics = metrics
        self._clock = clock
        self._noted: Note | None = None
        self._due_s = 0.0

    async def settle(self, connection: Connection) -> None:
        """Agree on the Redis process that answers now, and on what it has to get again.

        Idempotent: of several relays the first one arms the rows, the others find that it did.

        Raises:
            ServerMissing: Redis or PostgreSQL is away, or a batch of another relay does not end.
        """
        await self._redis.trust("")
        run_id = await self._redis.run_id()
        await self._redis.trust(run_id)
        async with connection.transaction():
            server = await rewind_table.locked_server(connection)
            known = await rewind_table.notes(connection)
            # After the notes: another relay may have published and noted while this one waited.
            last_ids = await self._last_ids()
            lost = [each.at for each in known if rewind_plan.went_back(each, last_ids)]
            since = rewind_plan.lost_since(known, last_ids) if lost or server.run_id != run_id else None
            if since is None:
                await rewind_table.agree(connection, run_id)
            else:
                armed = await rewind_table.rearm_since(connection, run_id, since)
                # What was lost must not be missed a second time.
                await rewind_table.drop(connection, lost)
                self._tell(since, armed.rows, lost=bool(lost))
        self._noted = None

    async def note(self, connection: Connection) -> None:
        """Store a note when it is time.

        Raises:
            ServerMissing: a stream went back; `settle` is next.
        """
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s:
            return
        self._due_s = now_s + NOTE_EVERY_S
        at = await rewind_table.now(connection)
        last_ids = await self._last_ids()
        if self._noted is not None and rewind_plan.went_back(self._noted, last_ids):
            raise self._redis.missing("a stream has come less far than a second ago", "see who emptied it")
        self._noted = Note(at, last_ids, await self._mirrored_to(at, last_ids))
        await rewind_table.keep(connection, self._noted)
        going = rewind_plan.superfluous(await rewind_table.times(connection), at, self._history_s)
        if going:
            await rewind_table.drop(connection, going)

    async def _last_ids(self) -> dict[str, str]:
        return dict(zip(self._streams, await self._redis.last_ids(list(self._streams.values())), strict=True))

    async def _mirrored_to(self, at: datetime, last_ids: Mapping[str, str]) -> datetime | None:
        parts = await self._redis.read_lag()
        written = [name for name, last_id in last_ids.items() if last_id != START]
        told = [parse_stage(parts.get(f"{_MIRRORS}{name}")) for name in written]
        # Asked for after the lag: what was parked since then counts as waiting there.
        if await parked.any_waits(self._redis, self._prefix, written):
            return None
        return rewind_plan.mirrored_to(at, told, self._clock.wall_s())

    def _tell(self, since: datetime, rows: int, *, lost: bool) -> None:
        self._metrics.rewinds.inc()
        self._metrics.rearmed_rows.inc(rows)
        log = _log.warning if lost else _log.info
        log("Redis was exchanged: rows are published again", lost_entries=lost, since=since.isoformat(), rows=rows)
