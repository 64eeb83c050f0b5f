"""One owner's work on one stream: learn what Kafka holds, then read, send and store the position, for ever.

Where it stands: entries come from `streams.redis_log`, records go out through `streams.kafka_producer`; what
to do is decided in `streams.mirror_plan`. `streams.mirror` makes a session under a lease and makes the next
one when it ends.

Taking up, and the order must not change:

1. The producer starts; on a broker with transactions that ends the former owner's. 2. The tails are read. 3. Where
   somebody's batch may still be in flight, the turn gets a new epoch, a fence goes into every partition, and the tails
   are read again, up to it (`streams.epochs`).

For each batch, and the order must not change:

1. The lease is checked. 2. Records are sent, in stream order within each partition. 3. Every one is
   acknowledged; on a broker with transactions all of them become visible at once, or none.
4. The position is stored, which Redis refuses to anyone but the lease's holder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from contracts.names import Stream, kafka_topic, redis_stream, topic_of
from runtime.logs import get_logger
from streams import kafka_transactions, mirror_tails
from streams.epochs import FENCE_KEY, fence_headers
from streams.kafka_connection import not_ready
from streams.kafka_log import Cluster, Partition, partition_for
from streams.kafka_producer import Producer
from streams.mirror_parking import Parking
from streams.mirror_plan import (
    START,
    TAIL_COUNT,
    Era,
    Memory,
    StreamId,
    era_of,
    next_read_count,
    parse_id,
    start_after,
)
from streams.mirror_record import Mirrored, mirrored, waited
from streams.records import Outgoing
from streams.topics import ensure

if TYPE_CHECKING:
    from streams.leases import Lease
    from streams.mirror_shared import Shared
    from streams.mirror_trim import Trimming
    from streams.redis_log import Entry

_log = get_logger(__name__)

_BLOCK_S = 0.5
# While entries wait for their tenants' quotas, and how many of them go on at a time.
_PARKED_BLOCK_S = 0.02
_UNPARK_COUNT = 64
_LOOK_S = 1.0
# After this long without a word with Kafka, a restart of it may have gone unnoticed: clients connect again
# silently.
_UNWATCHED_S = 0.05
_NOT_KNOWN = -1


class Ending(StrEnum):
    """Why a session ended by itself."""

    STOPPED = "asked to stop"
    LEASE_LOST = "lease lost"
    CHANGED = "a server is not the one it was"


class Session:
    """Mirrors one stream while `holds()`, and says `taken_up()` once it knows where to go on. `run` it once.

    `settled`: nothing of turns up to this epoch is in flight any more; -1: it is not known. Afterwards the attribute
    says the same with what this turn did.
    """

    def __init__(
        self,
        shared: Shared,
        stream: Stream,
        lease: Lease,
        trimming: Trimming,
        *,
        settled: int,
        holds: Callable[[], bool],
        taken_up: Callable[[], None],
    ) -> None:
        settings = shared.settings
        self._settings = settings
        self._stream = stream
        self._key = redis_stream(settings.prefix, stream)
        self._topic = kafka_topic(settings.prefix, topic_of(stream))
        self._lease = lease
        self._epoch = lease.epoch
        self.settled = settled
        self._holds = holds
        self._redis = shared.redis
        self._leases = shared.leases
        self._clock = shared.clock
        self._metrics = shared.metrics
        self._taken_up = taken_up
        self._cluster = Cluster(settings.kafka)
        # Fixed for all owners of the stream, so that a new one shuts the former one out.
        self._transactional_id = f"{settings.prefix}.mirror.{stream.value}" if settings.mirror.transactions else None
        self._producer = Producer(settings.kafka)
        self._partitions = 0
        self._cluster_epoch = ""
        self._era = Era("", 0, START)
        self._ids_tell = True
        self._position = START
        self._trimming = trimming
        self._parking = Parking(shared, stream, lease)
        self._count = next_read_count(0, 0, 0, settings.mirror.batch_entries)
        self._watched_s = self._looked_s = 0.0
        self._memory = Memory()

    async def run(self, stop: asyncio.Event) -> Ending:
        """Mirror until `stop` is set or something else ends it; nothing is in flight when this returns.

        Raises ServerMissing (transient) when Redis or Kafka fails, SendRefused when Kafka will never take what
        comes next; may be cancelled at any time.
        """
        try:
            await self._cluster.start()
            await ensure(self._cluster, self._settings)
            self._producer = await kafka_transactions.start(self._settings.kafka, self._transactional_id)
            if not await self._take_up():
                return Ending.LEASE_LOST
            self._taken_up()
            while not stop.is_set():
                ending = await self._step()
                if ending is not None:
                    return ending
            return Ending.STOPPED
        finally:
            await self._producer.abandon()
            await self._cluster.stop()

    async def _take_up(self) -> bool:
        """Find out where to go on; False when the lease was lost."""
        self._era = self._era._replace(run_id=await self._redis.run_id())
        self._cluster_epoch = await self._cluster.epoch()
        self._partitions = await self._producer.partitions(self._topic)
        info = await self._redis.stream_info(self._key)
        checkpoint = await self._leases.read_position(self._key)
        if checkpoint.get("run_id", self._era.run_id) != self._era.run_id:
            self.settled = _NOT_KNOWN  # Redis may have forgotten whose turn was the last
        if not await self._learn():
            return False
        kafka_last_id = self._memory.last_id
        start = start_after(checkpoint, self._cluster_epoch, parse_id(info.last_id), kafka_last_id)
        if not start.ids_tell and info.first_id is not None:
            await self._remember_back_to(parse_id(info.first_id))
        now_ms = 1000 * self._clock.wall_s()
        history_ms = 1000 * self._settings.relay.rewind_history_s
        self._era = era_of(checkpoint, self._era.run_id, kafka_last_id, history_ms=history_ms, now_ms=now_ms)
        if not self._era.is_over(now_ms):
            await self._remember_back_to(self._era.know_from)
        self._position, self._ids_tell = start.after, start.ids_tell
        await self._trimming.begin(start.after)
        await self._parking.begin()
        self._watched_s = self._clock.monotonic_s()
        self._metrics.resumes.labels(self._stream.value, start.reason).inc()
        _log.info(
            "mirroring", stream=self._stream.value, after=str(start.after), reason=start.reason, epoch=self._epoch
        )
        return True

    async def _learn(self) -> bool:
        """Learn what Kafka holds, and make sure that no more of former turns will count; False: the lease was lost."""
        self._memory = await self._remembered()
        quiet = self._memory.epoch <= self.settled
        if quiet and self._memory.epoch < self._epoch:
            return True
        epoch = await self._leases.number(self._lease, self._memory.epoch)
        if epoch is None:
            return False
        self._epoch = epoch
        if not quiet:
            fences = [
                Outgoing(self._topic, FENCE_KEY, None, fence_headers(epoch), int(1000 * self._clock.wall_s()), number)
                for number in range(self._partitions)
            ]
            await self._producer.send_all(fences)
            self._memory = await self._remembered()
            if not self._memory.fenced(epoch):
                raise not_ready(self._settings.kafka, f"{self._topic}: an open transaction hides what the log holds")
            self._metrics.fences.labels(self._stream.value).inc()
        self.settled = epoch
        return True

    async def _remembered(self) -> Memory:
        return await mirror_tails.remembered(self._cluster, self._topic, self._partitions, TAIL_COUNT)

    async def _remember_back_to(self, first: StreamId) -> None:
        self._memory = await mirror_tails.deeper(
            self._cluster, self._topic, self._partitions, self._memory, first, count=TAIL_COUNT
        )

    async def _step(self) -> Ending | None:
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            if not (await self._same_servers() and await self._look()):
                return Ending.CHANGED
        block_s = _BLOCK_S if self._parking.is_empty else _PARKED_BLOCK_S
        entries = await self._redis.read_after(self._key, str(self._position), self._count, block_s=block_s)
        read_bytes = sum(len(value) for entry in entries for value in entry.fields.values())
        self._count = next_read_count(self._count, len(entries), read_bytes, self._settings.mirror.batch_entries)
        ending = await self._mirror(entries) if entries else None
        return ending if ending is not None or self._parking.is_empty else await self._unpark()

    async def _mirror(self, entries: list[Entry]) -> Ending | None:
        if not await self._same_kafka():
            return Ending.CHANGED
        made = self._records(entries)
        fresh = self._fresh(made, ids_tell=self._ids_tell)
        going, waiting = self._parking.split([(made[index], entries[index]) for index in fresh])
        if not await self._send(going):
            return Ending.LEASE_LOST
        position: dict[str, str | int] = {
            "position": entries[-1].id,
            "epoch": self._epoch,
            "cluster_epoch": self._cluster_epoch,
            **self._era.fields(),
        }
        if not await self._parking.store(position, waiting):
            return Ending.LEASE_LOST
        self._position = made[-1].id
        self._trimming.passed(self._position, len(entries))
        skipped = len(entries) - len(fresh)
        self._metrics.mirrored(self._stream.value, going, 1000 * self._clock.wall_s(), skipped=skipped)
        return None

    async def _unpark(self) -> Ending | None:
        """Send what waited and may go on now; it is forgotten once it is acknowledged."""
        due = await self._parking.due(_UNPARK_COUNT)
        if not due:
            return None
        if not await self._same_kafka():
            return Ending.CHANGED
        made = self._records([entry for _tenant, entry in due])
        going = [waited(made[index]) for index in self._fresh(made, ids_tell=False)]
        if not (await self._send(going) and await self._parking.drop(due)):
            return Ending.LEASE_LOST
        self._metrics.mirrored(self._stream.value, going, 1000 * self._clock.wall_s(), skipped=len(due) - len(going))
        return None

    def _records(self, entries: list[Entry]) -> list[Mirrored]:
        mode, now_ms = self._settings.contracts.mode, int(1000 * self._clock.wall_s())
        return [mirrored(entry, self._topic, mode=mode, epoch=self._epoch, now_ms=now_ms) for entry in entries]

    async def _send(self, going: list[Mirrored]) -> bool:
        """Wait until Kafka has them; False, and nothing sent, when the lease is not surely ours."""
        if not self._holds():
            return False
        # Remembered at once: if sending fails, this session ends with its memory.
        now_s = self._clock.monotonic_s()
        for item in going:
            self._memory.sent(item.dedupe_id, now_s)
        self.settled = _NOT_KNOWN
        await self._producer.send_all([item.record for item in going])
        self.settled = self._epoch
        self._watched_s = self._clock.monotonic_s()
        return True

    def _fresh(self, made: list[Mirrored], *, ids_tell: bool) -> list[int]:
        """Places of what Kafka does not hold; of two with one dedupe id, of the first."""
        fresh: dict[bytes, int] = {}
        for index, item in enumerate(made):
            place = Partition(self._topic, partition_for(item.record.key or b"", self._partitions))
            if not self._memory.holds(place, item.id, item.dedupe_id, ids_tell=ids_tell):
                fresh.setdefault(item.dedupe_id, index)
        return list(fresh.values())

    async def _same_kafka(self) -> bool:
        quiet = self._clock.monotonic_s() - self._watched_s <= _UNWATCHED_S
        return quiet or await self._cluster.epoch() == self._cluster_epoch

    async def _same_servers(self) -> bool:
        """Whether Redis and Kafka are still those that `_take_up` saw."""
        return await self._redis.run_id() == self._era.run_id and await self._cluster.incarnation(self._topic) == (
            self._cluster_epoch,
            self._partitions,
        )

    async def _look(self) -> bool:
        """Tell the lag, and trim now and then; False when the stream went back behind the position."""
        info = await self._redis.stream_info(self._key)
        if parse_id(info.last_id) < self._position:
            return False
        await self._trimming.look(info, may_trim=self._holds)
        return True
