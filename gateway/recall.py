"""Messages that the ring has dropped, read back from Kafka for one client that resumes: all of them or none.

Bounded three ways, because a storm of old ids must not become a storm of reads: records per read, seconds per read, and
reads at a time; a client that waits for its turn longer than the deadline is told that it was not recovered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import ServerMissing
from gateway.feed import Feed, encoded, read_message
from streams.kafka_log import Cluster, OffsetGone, Partition, Record

if TYPE_CHECKING:
    from gateway.subscription import Subscription

MOST_RECORDS = 20_000
MOST_BYTES = 4_194_304
DEADLINE_S = 3.0
READS_AT_A_TIME = 2


class Recalled(NamedTuple):
    """The tenant's messages as frames, and the first offset after them, which the ring holds."""

    frames: list[bytes]
    cursor: int


class Recall:
    """Bounded reads of history. Waits at most `deadline_s` for each."""

    def __init__(
        self, feed: Feed, cluster: Cluster, *, most_records: int = MOST_RECORDS, deadline_s: float = DEADLINE_S
    ) -> None:
        self.most_records = most_records
        self._feed = feed
        self._cluster = cluster
        self._deadline_s = deadline_s
        self._turns = asyncio.Semaphore(READS_AT_A_TIME)

    async def read(self, partition: int, wanted: Subscription, cursor: int) -> Recalled | None:
        """Everything that `wanted` names from `cursor` to what the ring holds; None when not to be had whole."""
        try:
            async with asyncio.timeout(self._deadline_s), self._turns:
                return await self._read(partition, wanted, cursor)
        except (TimeoutError, ServerMissing, OffsetGone):
            return None

    async def _read(self, partition: int, wanted: Subscription, cursor: int) -> Recalled | None:
        place = Partition(self._feed.push, partition)
        epoch = self._feed.epoch
        if cursor < (await self._cluster.begin_offsets([place]))[place]:
            return None
        first, found, size_bytes = cursor, _Found(self._feed, wanted, epoch), 0
        # The ring goes on dropping while we read: whole means that it reaches back to where the read ended.
        while not self._feed.rings[partition].covers(wanted.tenant, cursor):
            (answer,) = await self._cluster.fetch({place: cursor}, max_wait_ms=20)
            for record in answer.records:
                size_bytes += found.take(record)
            cursor = answer.next_offset
            if cursor - first > 2 * self.most_records or size_bytes > MOST_BYTES or self._feed.epoch != epoch:
                return None
        return Recalled(found.frames, cursor)


class _Found:
    """Picks a subscription's messages out of history, each once."""

    def __init__(self, feed: Feed, wanted: Subscription, epoch: str) -> None:
        self.frames: list[bytes] = []
        self._feed = feed
        self._wanted = wanted
        self._epoch = epoch
        self._ids: set[str] = set()

    def take(self, record: Record) -> int:
        """Bytes added by the record, 0 when it is not for the client or a repeat."""
        if record.key != self._wanted.tenant.encode():
            return 0
        message = read_message(record)
        if message is None or not self._wanted.wants(message.channel) or message.id in self._ids:
            return 0
        first = self._feed.seen[record.partition].first_offset(message.tenant_id, message.id)
        if first is not None and first < record.offset:
            return 0
        self._ids.add(message.id)
        self.frames.append(encoded(record, message, self._epoch))
        return len(self.frames[-1])
