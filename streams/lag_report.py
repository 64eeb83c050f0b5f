"""Once a second: how far every stage is behind, as metrics and as the push message `system:lag`.

The relay and the mirrors leave their part in Redis; Kafka is asked here. The message goes to `push-latest`,
where only the newest counts, so a message that cannot be sent is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from contracts.errors import SendRefused, ServerMissing
from contracts.names import LAG_CHANNEL, SYSTEM_TENANT, Stream, Topic, kafka_topic, topic_of
from contracts.push import encode, of_lag
from runtime.lag import lag_of, parse_stage, records_behind
from runtime.logs import get_logger
from streams.epochs import admitted
from streams.kafka_log import Cluster, OffsetGone, Outgoing, Partition
from streams.kafka_producer import Producer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.mirror_metrics import MirrorMetrics
    from streams.redis_log import RedisLog

_log = get_logger(__name__)

_EVERY_S = 1.0
# Offsets behind the end up to which the records there are counted.
_NEARLY = 64


class LagReport:
    """Tells the lag while `teller()` says that it is this process' turn."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisLog,
        clock: Clock,
        metrics: MirrorMetrics,
        teller: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._clock = clock
        self._metrics = metrics
        self._teller = teller
        self._topics = [kafka_topic(settings.prefix, topic_of(stream)) for stream in Stream]
        self._target = kafka_topic(settings.prefix, Topic.PUSH_LATEST)
        self._cluster: Cluster | None = None
        self._producer: Producer | None = None
        self._silent = False

    async def run(self, stop: asyncio.Event) -> None:
        """Tell once a second until `stop` is set; a failing server is told once and tried again each time."""
        try:
            while not stop.is_set():
                if self._teller():
                    await self._tell_or_drop()
                else:
                    self._metrics.consumer_lag.clear()  # whoever tells it now also shows it
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _EVERY_S)
        finally:
            await self._disconnect()

    async def _tell_or_drop(self) -> None:
        try:
            await self._tell()
            self._silent = False
        except (ServerMissing, SendRefused) as error:
            if not self._silent:
                _log.warning("lag not told", error=str(error))
            self._silent = True
            await self._disconnect()

    async def _tell(self) -> None:
        cluster, producer = await self._connected()
        parts = await self._redis.read_lag()
        behind = await self._consumers(cluster)
        for topic, records in behind.items():
            self._metrics.consumer_lag.labels(topic).set(records)
        now_s = self._clock.wall_s()
        streams = [parse_stage(text) for part, text in parts.items() if part.startswith("mirror:")]
        message = of_lag(lag_of(parse_stage(parts.get("relay")), streams, sum(behind.values()), now_s))
        self._metrics.lag_observed.set(now_s)
        headers = [("pid", message.id.encode()), ("ch", LAG_CHANNEL.encode()), ("ck", LAG_CHANNEL.encode())]
        record = Outgoing(self._target, SYSTEM_TENANT.encode(), encode(message), headers, int(1000 * now_s))
        await producer.send_all([record])

    async def _consumers(self, cluster: Cluster) -> dict[str, int]:
        """Records behind by topic, for the topics that the worker's group has ever committed in."""
        counts = await cluster.topics(self._topics)
        places = [Partition(topic, n) for topic in self._topics for n in range(counts.get(topic, 0))]
        committed = await cluster.committed(self._settings.worker.group, places)
        used = {place.topic for place in committed}
        asked = [place for place in places if place.topic in used]
        ends = await cluster.true_end_offsets(asked)
        begins = await cluster.begin_offsets(asked)
        ends |= await _ends_of_records(cluster, begins, ends, committed)
        return {
            topic: records_behind(begins, {p: end for p, end in ends.items() if p.topic == topic}, committed)
            for topic in sorted(used)
        }

    async def _connected(self) -> tuple[Cluster, Producer]:
        if self._cluster is None:
            self._cluster = Cluster(self._settings.kafka)
            await self._cluster.start()
        if self._producer is None:
            self._producer = Producer(self._settings.kafka)
            await self._producer.start()
        return self._cluster, self._producer

    async def _disconnect(self) -> None:
        cluster, self._cluster = self._cluster, None
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.abandon()
        if cluster is not None:
            await cluster.stop()


async def _ends_of_records(
    cluster: Cluster, begins: Mapping[Partition, int], ends: Mapping[Partition, int], committed: Mapping[Partition, int]
) -> dict[Partition, int]:
    """For partitions that a group has nearly finished, the end as if only records had offsets.

    Marks of transactions and fences have some too: nobody finishes those, and an idle group would never be done.
    """
    starts = {place: max(begins[place], committed.get(place, 0)) for place in ends}
    near = {place: start for place, start in starts.items() if 0 < ends[place] - start <= _NEARLY}
    try:
        answers = await cluster.fetch(near) if near else []
    except OffsetGone:
        return {}  # retention has removed some of it meanwhile
    return {
        answer.partition: near[answer.partition] + len(admitted(answer.records))
        for answer in answers
        if answer.next_offset >= ends[answer.partition]
    }
