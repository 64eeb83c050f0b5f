"""The gateway's ear: follows the push topics and puts every message, once, where clients get it.

Stands between the worker's agents (which write `push` and `push-latest`) and `gateway.hub`. It reads all partitions
with no consumer group: each gateway has everything. At start it reads the tail of the topic again, which fills the
rings (so a client resumes across a restart of the gateway) and the memory of seen ids (so a repeat written after the
restart is still known as one). When the cluster comes back as another one, everything is forgotten and all clients
start over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contracts.errors import ContractError
from contracts.names import Topic, kafka_topic
from contracts.push import PushMessage, decode
from gateway import frames, resume
from gateway.closing import Code, drain
from gateway.latest import Latest
from gateway.ring import Entry, Limits, Ring
from gateway.seen import Seen
from runtime.logs import get_logger
from streams.kafka_log import Cluster, Partition, Record, partition_for
from streams.tail_reader import TailReader

if TYPE_CHECKING:
    from gateway.hub import Hub
    from gateway.observed import GatewayMetrics
    from runtime.clock import Clock
    from runtime.settings import Settings

_log = get_logger(__name__)

# Read again at start, per partition: more than a worker repeats after a crash, and read in about a second.
TAIL_RECORDS = 50_000
RING_MESSAGES = 200_000
_LOOK_S = 0.02
_EPOCH_S = 0.25


class Feed:
    """Rings and seen ids of every push partition, and the current values. `caught_up` once the tail was read."""

    def __init__(self, settings: Settings, hub: Hub, latest: Latest, clock: Clock, metrics: GatewayMetrics) -> None:
        self.epoch = ""
        self.caught_up = asyncio.Event()
        self.rings = hub.rings
        self.seen: dict[int, Seen] = {}
        self.push = kafka_topic(settings.prefix, Topic.PUSH)
        self._settings = settings
        self._hub = hub
        self._latest = latest
        self._clock = clock
        self._metrics = metrics
        self._reader: TailReader | None = None
        gateway = settings.gateway
        self._limits = Limits(gateway.ring_bytes, RING_MESSAGES, gateway.ring_age_s)

    @property
    def connected(self) -> bool:
        """Whether the broker answered last time."""
        return self._reader is not None and self._reader.connected

    def partition_of(self, tenant: str) -> int:
        """The push partition that holds all of a tenant's messages."""
        return partition_for(tenant.encode(), len(self.rings))

    async def run(self, cluster: Cluster) -> None:
        """Follow for ever; `cluster` answers where the topics end now. Ends by cancellation.

        Raises:
            ServerMissing: no broker answered the first time. Later it waits for the broker instead.
        """
        topics = (self.push, kafka_topic(self._settings.prefix, Topic.PUSH_LATEST))
        tail = min(TAIL_RECORDS, self._settings.gateway.dedupe_entries)
        async with TailReader(self._settings.kafka, topics, self._clock, tail_count=tail) as reader:
            self._reader = reader
            ends = await cluster.true_end_offsets(list(reader.positions))
            self._start_over(reader)
            watch = asyncio.create_task(self._watch(reader, ends))
            try:
                async for records in reader:
                    if reader.epoch != self.epoch:
                        await self._forget(reader)
                    self._take(records)
                    await self._hub.room()
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)

    def _take(self, records: list[Record]) -> None:
        put = self._put_event if records[0].topic == self.push else self._put_value
        for record in records:
            put(record)

    def _put_event(self, record: Record) -> None:
        """One message of the log: into its ring and out to the clients, unless it is a repeat or not a message."""
        ring, seen = self.rings[record.partition], self.seen[record.partition]
        if record.offset < ring.end:
            return  # read again after the broker was away
        message = read_message(record)
        if message is None:
            self._metrics.invalid.inc()
        elif seen.is_repeat(message.tenant_id, message.id, record.offset):
            self._metrics.repeats.inc()
        else:
            chunk = encoded(record, message, self.epoch)
            entry = Entry(record.offset, message.tenant_id, message.channel, chunk, self._at_s(record))
            ring.append(entry)
            self._hub.publish(entry)
            return
        ring.pass_over(record.offset)

    def _put_value(self, record: Record) -> None:
        """One current value: replaces the one before it under the same key."""
        message = read_message(record)
        if message is None:
            self._metrics.invalid.inc()
            return
        key = next(
            (value.decode("utf-8", "replace") for name, value in record.headers if name == "ck" and value),
            message.channel,
        )
        chunk = frames.message(message.type, record.value or b"")
        self._latest.put(message.tenant_id, key, message.channel, chunk, self._at_s(record))
        self._hub.publish_value(message.tenant_id, key, message.channel, chunk)

    def _at_s(self, record: Record) -> float:
        # A producer's clock that runs ahead must not keep its messages longer.
        return min(record.timestamp_ms / 1000, self._clock.wall_s())

    def _start_over(self, reader: TailReader) -> None:
        self.epoch = reader.epoch
        self.seen.clear()
        self.rings.clear()
        for place, position in reader.positions.items():
            if place.topic == self.push:
                self.seen[place.number] = Seen(self._settings.gateway.dedupe_entries)
                self._hub.follow(place.number, Ring(self._limits, position))

    async def _forget(self, reader: TailReader) -> None:
        _log.warning("the log is another one", before=self.epoch, now=reader.epoch, clients=len(self._hub.clients))
        self._start_over(reader)
        await drain(self._hub.clients, Code.NEW_LOG, 0.0, self._clock)

    async def _watch(self, reader: TailReader, ends: dict[Partition, int]) -> None:
        # The reader moves on without a batch, too (transaction markers): its positions count, not its batches.
        while any(reader.positions.get(place, 0) < end for place, end in ends.items()):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        self.caught_up.set()
        _log.info("caught up", epoch=self.epoch, messages=sum(len(ring) for ring in self.rings.values()))
        # Another cluster may have nothing to read yet, but its clients must not be told that they resumed.
        while True:
            await asyncio.sleep(_EPOCH_S)
            if reader.epoch != self.epoch:
                await self._forget(reader)


def read_message(record: Record) -> PushMessage | None:
    """The message in a record, None when it is not one, or when its key says another tenant than its text."""
    if record.value is None:
        return None
    try:
        message = decode(record.value)
        frames.refuse_line_breaks("event", message.type)
    except (ContractError, ValueError):
        return None
    return message if record.key == message.tenant_id.encode() else None


def encoded(record: Record, message: PushMessage, epoch: str) -> bytes:
    """The bytes that every client gets for a record of the log."""
    event_id = resume.event_id(epoch, record.partition, record.offset)
    return frames.message(message.type, record.value or b"", event_id)
