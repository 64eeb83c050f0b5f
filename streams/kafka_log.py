"""Kafka as a log: read partitions, ask where they begin and end, create topics.

`streams.kafka_producer` sends. Who may import aiokafka beside these two is listed in pyproject.toml (import-linter).

What the embedded broker does differently, and what is done about it here:

1. ListOffsets(latest) answers the base offset of the *last batch* plus one. A fetch's high watermark is
   right, so `true_end_offsets` takes the larger of both; on Apache Kafka they are the same.
2. A fetch beyond the end is not refused but answered empty, so a reader of a log that was emptied would wait
   for ever: readers compare `cluster_epoch` and `Fetched.end`.
3. A metadata request that names a missing topic creates it, unless it says not to: see `streams.kafka_metadata`.
4. A fetch with max_wait 0 is answered without any partition: the shortest wait used is 1 ms.
5. It has no idempotent producer: see `Producer`.
6. It may show a batch before the one in front of it: see `streams.gaps`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.partitioner import murmur2
from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from streams.gaps import gaps_of
from streams.kafka_connection import close, connection, kafka_down, not_ready, patiently, to_the_end
from streams.kafka_metadata import learn_only_named
from streams.records import Fetched, Headers, NewTopic, Outgoing, Partition, Position, Record

if TYPE_CHECKING:
    from runtime.settings import KafkaSettings

# The values are offered here as well: who talks to Kafka needs one import.
__all__ = [
    "Cluster",
    "Fetched",
    "Headers",
    "NewTopic",
    "OffsetGone",
    "Outgoing",
    "Partition",
    "Position",
    "Record",
    "kafka_down",
    "partition_for",
]

_FETCH_BYTES = 4 * 1024 * 1024
_EARLIEST, _LATEST = -2, -1
_READ_COMMITTED = 1
_CHECK_CRCS = True
_TOPIC_EXISTS = 36
_Answer = tuple[Partition, int, Any]


class OffsetGone(Exception):  # noqa: N818 - a fact about the log, not a failure of ours
    """The position lies outside the log (trimmed by retention, or the topic was recreated)."""


@lru_cache(maxsize=65_536)
def partition_for(key: bytes, partitions: int) -> int:
    """The partition in [0, partitions) that Kafka's default partitioner gives `key` (murmur2)."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Cluster:
    """A connection for reading and for questions; it belongs to one event loop.

    Every method waits at most settings.kafka.send_timeout_s for each request and raises ServerMissing
    (transient) when the cluster does not answer; the connection is made again by the next call.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.gaps = gaps_of(settings)
        """Of this connection; or those of another reader, to be shared with it."""
        self._client: Any = None

    async def start(self) -> None:
        """Connect. Raises ServerMissing when no bootstrap server answers."""
        self._client = AIOKafkaClient(**connection(self._settings))
        learn_only_named(self._client)
        try:
            await to_the_end(self._guard(self._client.bootstrap()))
            await self.refresh()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close all connections; may be called twice."""
        if self._client is not None:
            client, self._client = self._client, None
            await to_the_end(close(client))

    async def refresh(self) -> None:
        """Learn the brokers anew, and the leaders of the topics that were asked about."""
        if not await self._guard(self._client.force_metadata_update()):
            raise kafka_down(self._settings, "no broker answers")

    async def epoch(self) -> str:
        """Eight hex digits that name this incarnation: others after the embedded broker restarted empty."""
        answer = await self._send(self._client.get_random_node(), MetadataRequest([]))
        return _epoch_of(answer.cluster_id)

    async def incarnation(self, topic: str) -> tuple[str, int]:
        """`epoch`, and the number of partitions of one topic (0: it is missing, and is not created)."""
        request = MetadataRequest([topic], allow_auto_topic_creation=False)
        answer = await self._send(self._client.get_random_node(), request)
        return _epoch_of(answer.cluster_id), sum(len(partitions) for *_topic, partitions in answer.topics)

    async def topics(self, names: Iterable[str] | None = None) -> dict[str, int]:
        """Those of `names` that exist, with their numbers of partitions; None: all of the cluster, maybe thousands."""
        request = MetadataRequest(None if names is None else list(names), allow_auto_topic_creation=False)
        answer = await self._send(self._client.get_random_node(), request)
        return {topic: len(partitions) for code, topic, _internal, partitions in answer.topics if code == 0}

    async def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Create topics; one that exists already is left as it is."""
        wanted: list[tuple[object, ...]] = [
            (t.name, t.partitions, t.replication, [], list(t.config.items())) for t in topics
        ]
        await self.refresh()
        request = CreateTopicsRequest(wanted, int(self._settings.send_timeout_s * 1000), validate_only=False)
        answer = await self._send(self._client.cluster.controller.nodeId, request)
        for name, code, *message in answer.topic_errors:
            if code not in (0, _TOPIC_EXISTS):
                raise kafka_down(self._settings, f"creating topic {name}: {message[0] if message else for_code(code)}")

    async def fetch(self, positions: Mapping[Partition, int], *, max_wait_ms: int = 1) -> list[Fetched]:
        """Read on from `positions`: what finished transactions wrote, in offset order.

        Waits at most `max_wait_ms` (>= 1) when there is nothing. A partition that the broker says nothing about (the
        embedded one does so when it is busy) is left out. Raises OffsetGone when a position lies outside the log (not
        on the embedded broker: compare `end`).
        """
        found = [self._fetched(*answer) for answer in await self._answers(positions, max_wait_ms)]
        if self.gaps is not None:
            await self.gaps.pause()
        return found

    async def begin_offsets(self, places: Iterable[Partition]) -> dict[Partition, int]:
        """The oldest offset kept in each partition."""
        asked = list(places)
        return await patiently(lambda: self._list_offsets(asked, _EARLIEST))

    async def true_end_offsets(self, places: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that the next record of each partition will get, on every broker."""
        asked = list(places)
        return await patiently(lambda: self._true_ends(asked))

    async def read_tail(self, place: Partition, count: int) -> list[Record]:
        """The records at the last `count` offsets of a partition, in offset order."""
        end = (await self.true_end_offsets([place]))[place]
        at = max((await self.begin_offsets([place]))[place], end - count)
        records: list[Record] = []
        while at < end:
            for answer in await self.fetch({place: at}, max_wait_ms=self._settings.fetch_max_wait_ms):
                end = min(end, answer.stable_end)
                records += answer.records
                at = answer.next_offset
        return records

    async def committed(self, group: str, places: Iterable[Partition]) -> dict[Partition, int]:
        """The offsets a consumer group has committed; a partition without one is left out."""
        by_topic: dict[str, list[int]] = defaultdict(list)
        for place in places:
            by_topic[place.topic].append(place.number)
        return await patiently(lambda: self._committed(group, by_topic))

    async def _committed(self, group: str, by_topic: Mapping[str, list[int]]) -> dict[Partition, int]:
        node = await self._guard(self._client.coordinator_lookup(0, group))
        answer = await self._send(node, OffsetFetchRequest(group, list(by_topic.items())))
        found: dict[Partition, int] = {}
        for topic, rows in answer.topics:
            for number, offset, _metadata, code in rows:
                self._check(code, Partition(topic, number))
                if offset >= 0:
                    found[Partition(topic, number)] = offset
        return found

    async def _true_ends(self, places: list[Partition]) -> dict[Partition, int]:
        ends = await self._list_offsets(places, _LATEST)
        for row in await self._all_answers(ends, 1) if ends else []:
            answer = self._fetched(*row)
            ends[answer.partition] = max(ends[answer.partition], answer.end, answer.next_offset)
        return ends

    async def _list_offsets(self, places: Iterable[Partition], at: int) -> dict[Partition, int]:
        asked: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for place in places:
            asked[await self._leader(place)][place.topic].append((place.number, at))
        found: dict[Partition, int] = {}
        for node, by_topic in asked.items():
            answer = await self._send(node, OffsetRequest(-1, 0, list(by_topic.items())))
            for topic, rows in answer.topics:
                for number, code, _timestamp, offset in rows:
                    self._check(code, Partition(topic, number))
                    found[Partition(topic, number)] = offset
        return found

    async def _answers(self, positions: Mapping[Partition, int], max_wait_ms: int) -> list[_Answer]:
        """Each partition with the position asked for and the broker's answer, undecoded."""
        asked: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
        for place, offset in positions.items():
            asked[await self._leader(place)][place.topic].append((place.number, offset, _FETCH_BYTES))
        requests = {
            node: FetchRequest(max_wait_ms, 1, 16 * _FETCH_BYTES, _READ_COMMITTED, list(by_topic.items()))
            for node, by_topic in asked.items()
        }
        answers = await asyncio.gather(*(self._send(node, request) for node, request in requests.items()))
        return [
            (Partition(topic, row[0]), positions[Partition(topic, row[0])], row)
            for answer in answers
            for topic, rows in answer.topics
            for row in rows
        ]

    async def _all_answers(self, positions: Mapping[Partition, int], max_wait_ms: int) -> list[_Answer]:
        """The same of every partition. Raises NotReady when the broker says nothing about one."""
        answers = await self._answers(positions, max_wait_ms)
        if missing := positions.keys() - {place for place, *_answer in answers}:
            place = min(missing)
            raise not_ready(self._settings, f"{place.topic}/{place.number}: the answer says nothing about it")
        return answers

    def _parsed(self, place: Partition, position: int, row: Sequence[Any]) -> tuple[Any, int, int, int]:
        """The records, not yet read, then where the log begins and ends, and the end of finished transactions.

        Row: partition, error code, high watermark, stable end, begin, aborted, …, records.
        """
        _number, code, end, stable_end, begin, aborted, *rest = row
        if for_code(code) is OffsetOutOfRangeError:
            raise OffsetGone(place)
        self._check(code, place)
        batches = MemoryRecords(rest[-1] or b"")
        parsed = PartitionRecords(
            TopicPartition(*place), batches, aborted, position, None, None, _CHECK_CRCS, _READ_COMMITTED
        )
        return parsed, begin, end, stable_end if stable_end >= 0 else end

    def _fetched(self, place: Partition, position: int, row: Sequence[Any]) -> Fetched:
        parsed, begin, end, stable_end = self._parsed(place, position, row)
        records = [Record(place.topic, place.number, r.offset, r.timestamp, r.key, r.value, r.headers) for r in parsed]
        next_offset = parsed.next_fetch_offset
        if self.gaps is not None:
            records, next_offset = self.gaps.before(position, records, next_offset)
        return Fetched(place, records, next_offset, begin, end, stable_end)

    async def _leader(self, place: Partition) -> int:
        for _attempt in range(3):  # an update that was under way before the topic was named says nothing of it
            leader = self._client.cluster.leader_for_partition(TopicPartition(*place))
            if leader is not None and leader != -1:
                return int(leader)
            self._client.add_topic(place.topic)
            await self.refresh()
        raise not_ready(self._settings, f"{place.topic}/{place.number} has no leader or does not exist")

    def _check(self, code: int, place: Partition) -> None:
        if code != 0:
            self._client.force_metadata_update()
            error = for_code(code)
            failed = not_ready if error.retriable else kafka_down
            raise failed(self._settings, f"{place.topic}/{place.number}: {error.__name__}")

    async def _send(self, node: object, request: object) -> Any:  # noqa: ANN401 - aiokafka has no types
        return await self._guard(self._client.send(node, request))

    async def _guard(self, call: Awaitable[Any]) -> Any:  # noqa: ANN401 - the same
        try:
            return await call
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError) as error:
            raise not_ready(self._settings, str(error)) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_down(self._settings, error) from error


def _epoch_of(cluster_id: str) -> str:
    return hashlib.sha256(cluster_id.encode()).hexdigest()[:8]
