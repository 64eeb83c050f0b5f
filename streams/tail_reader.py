"""Following Kafka partitions without a consumer group: every reader sees every record.

The gateway's feed stands on it. One request is on its way at any time, for all partitions together. The
reader survives a broker's restart; when the cluster comes back as another one (`epoch` differs: the embedded
broker forgets everything), all positions are void and reading starts at the beginning of what is there now.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from contracts.errors import ServerMissing
from reliability.backoff import full_jitter_s
from runtime.logs import get_logger
from streams.kafka_log import Cluster, OffsetGone, Partition, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from runtime.clock import Clock
    from runtime.settings import KafkaSettings

_log = get_logger(__name__)

_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.05, 1.0
# A broker cannot be stopped and started again in less; a longer pause between two requests may hide a
# restart, because the client connects again without a word.
_UNWATCHED_S = 0.05


class TailReader:
    """Batches of records of all partitions of `topics`, for ever: `async for records in reader`.

    Starts at `positions[partition]`, and where that is not given at the last `tail_count` records (0: only
    what comes). A batch holds records of one partition, in offset order; the same record may come again only
    after `epoch` changed or retention overtook the reader. `epoch` is valid from the first batch on, and set
    before each batch. Owned by one task; cancelling it between batches loses nothing, since `positions` tells
    where to go on.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        clock: Clock,
        *,
        positions: Mapping[Partition, int] | None = None,
        tail_count: int = 0,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._clock = clock
        self._tail_count = tail_count
        self._cluster: Cluster | None = None
        self._heard_s = 0.0
        self._failures = 0
        self.positions: dict[Partition, int] = dict(positions or {})
        self.epoch = ""
        self.connected = False

    async def __aenter__(self) -> Self:
        """Connect and find the positions. Raises ServerMissing when the first attempt fails."""
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disconnect()

    async def __aiter__(self) -> AsyncIterator[list[Record]]:
        while True:
            try:
                batches = await self._next()
            except OffsetGone as gone:
                await self._rewind(gone.args[0])
                continue
            except ServerMissing as error:
                await self._wait_and_connect(error)
                continue
            for records in batches:
                last = records[-1]
                yield records
                self.positions[Partition(last.topic, last.partition)] = last.offset + 1

    async def _next(self) -> list[list[Record]]:
        cluster = self._cluster
        if cluster is None:
            await self._connect()
            return []
        if self._clock.monotonic_s() - self._heard_s > _UNWATCHED_S and await cluster.epoch() != self.epoch:
            await self._connect()
            return []
        answers = await cluster.fetch(self.positions, max_wait_ms=self._settings.fetch_max_wait_ms)
        self._heard_s = self._clock.monotonic_s()
        for answer in answers:
            place, at = answer.partition, self.positions[answer.partition]
            # A broker that has just become the leader may tell of an end that lags: asked for the end, it waits.
            if answer.end < at and (await cluster.true_end_offsets([place]))[place] < at:
                raise OffsetGone(place)
            if not answer.records:
                # Transaction markers and compacted batches: on with nothing to show.
                self.positions[answer.partition] = answer.next_offset
        return [answer.records for answer in answers if answer.records]

    async def _connect(self) -> None:
        await self._disconnect()
        cluster = Cluster(self._settings)
        try:
            await cluster.start()
            epoch = await cluster.epoch()
            await self._place(cluster, epoch)
        except BaseException:
            await cluster.stop()
            raise
        if epoch != self.epoch:
            _log.info("following", topics=self._topics, epoch=epoch, partitions=len(self.positions))
        self._cluster, self.epoch, self.connected = cluster, epoch, True
        self._heard_s = self._clock.monotonic_s()
        self._failures = 0

    async def _place(self, cluster: Cluster, epoch: str) -> None:
        """Set a position for every partition that exists now."""
        counts = await cluster.topics(self._topics)
        places = [Partition(topic, n) for topic in self._topics for n in range(counts.get(topic, 0))]
        if len({place.topic for place in places}) < len(self._topics):
            missing = ", ".join(topic for topic in self._topics if topic not in counts)
            raise ServerMissing("Kafka", self._settings.bootstrap, f"topic {missing} is missing", "wait for the mirror")
        begins = await cluster.begin_offsets(places)
        if self.epoch and epoch != self.epoch:
            self.positions = begins
            return
        ends = await cluster.true_end_offsets(places)
        self.positions = {
            place: self.positions.get(place, max(begins[place], ends[place] - self._tail_count)) for place in places
        }

    async def _rewind(self, place: Partition) -> None:
        """The position is outside the log: go on at the oldest record there is."""
        _log.warning("position gone", topic=place.topic, partition=place.number, offset=self.positions[place])
        try:
            if self._cluster is not None:
                self.positions |= await self._cluster.begin_offsets([place])
        except ServerMissing as error:
            await self._wait_and_connect(error)

    async def _wait_and_connect(self, error: ServerMissing) -> None:
        if self.connected:
            _log.warning("lost the cluster", error=str(error))
        await self._disconnect()
        wait_s = full_jitter_s(self._failures, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, clock=self._clock)
        self._failures += 1
        await asyncio.sleep(wait_s)

    async def _disconnect(self) -> None:
        self.connected = False
        if self._cluster is not None:
            cluster, self._cluster = self._cluster, None
            await cluster.stop()
