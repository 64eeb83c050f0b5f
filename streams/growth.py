"""More partitions for topics that exist: what has to be asked and done at the brokers.

Where it stands: `headrace.growing` puts the steps in order; `streams.growth_journal` says how far they are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing
from typing import TYPE_CHECKING

from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreatePartitionsRequest, DescribeGroupsRequest

from contracts.errors import SettingsError
from contracts.names import Stream, kafka_topic, redis_stream, topic_of
from streams.kafka_connection import kafka_down, patiently
from streams.kafka_log import Partition
from streams.leases import Leases
from streams.log_range import LogRange
from streams.mirror_plan import START, parse_id, seen_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runtime.settings import KafkaSettings
    from streams.kafka_log import Cluster
    from streams.redis_log import RedisLog

_WAIT_MS = 10_000
_TAIL_COUNT = 100
_VISIBLE_POLLS, _VISIBLE_POLL_S = 100, 0.05


class GrowthLog(LogRange):
    """A connection that can also ask who is in a group, and add partitions."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings)
        self._of = settings

    async def members(self, group: str) -> list[str]:
        """Client ids and hosts of a consumer group's members; none: no worker is in it."""

        async def asked() -> list[str]:
            node = await self._guard(self._client.coordinator_lookup(0, group))
            answer = await self._send(node, DescribeGroupsRequest([group]))
            ((code, _group, _state, _type, _protocol, members),) = answer.groups
            if code:
                raise kafka_down(self._of, f"group {group}: {for_code(code).__name__}")
            return [f"{client} on {host.lstrip('/')}" for _id, client, host, *_rest in members]

        return await patiently(asked)

    async def add_partitions(self, topics: Iterable[str], count: int) -> list[str]:
        """Give each topic `count` partitions; one that has as many already stays as it is. The names of the others.

        Raises:
            SettingsError: a topic has more of them.
            ServerMissing: the broker refuses; the embedded one cannot.
        """
        known = await self.topics()
        more = [name for name in topics if known[name] != count]
        for name in more:
            if known[name] > count:
                raise SettingsError(f"--partitions: topic {name} has {known[name]} already; topics never shrink")
        if more:
            request = CreatePartitionsRequest([(name, (count, None)) for name in more], _WAIT_MS, validate_only=False)
            answer = await self._send(self._client.cluster.controller.nodeId, request)
            for name, code, message in answer.topic_errors:
                if code:
                    raise kafka_down(self._of, f"adding partitions to {name}: {message or for_code(code).__name__}")
            await self._until_seen(more, count)
        return more

    async def _until_seen(self, topics: list[str], count: int) -> None:
        for _poll in range(_VISIBLE_POLLS):
            known = await self.topics()
            if all(known[name] == count for name in topics):
                await self.refresh()
                return
            await asyncio.sleep(_VISIBLE_POLL_S)
        raise kafka_down(self._of, f"new partitions are still not seen: {', '.join(topics)}")

    async def uncommitted(self, group: str, ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """Records of partitions that end at `ends` and that a group has not committed, by partition."""
        begins = await self.begin_offsets(ends)
        committed = await self.committed(group, ends)
        found = {}
        for place, end in ends.items():
            left = end - max(committed.get(place, 0), begins[place])
            if left > 0 and await self._has_records(place, end - left, end):
                found[place] = left
        return found

    async def _has_records(self, place: Partition, start: int, end: int) -> bool:
        async with aclosing(self.read_counted(place, start, end)) as chunks:
            async for _chunk in chunks:
                return True
        return False  # only marks of transactions, or what does not count

    async def rows(self, place: Partition, newest: Callable[[bytes | None, bytes], bytes]) -> dict[bytes, bytes]:
        """What stands in a changelog's partition: of each key the version that `newest` prefers."""
        span = (await self.spans([place]))[place]
        rows: dict[bytes, bytes] = {}
        async with aclosing(self.read(place, span.begin, span.end)) as chunks:
            async for chunk in chunks:
                for record in chunk:
                    if record.key is None:
                        continue
                    if record.value is None:
                        rows.pop(record.key, None)
                    else:
                        rows[record.key] = newest(rows.get(record.key), record.value)
        return rows


async def mirror_at_rest(redis: RedisLog, cluster: Cluster, prefix: str) -> str:
    """Why topics must not grow now, as far as the mirrors go; "" when they may.

    No mirror may run; and the last one must have ended in order. One that was killed in the midst of a batch left
    entries in Kafka beyond its stored position, and its successor tells by partition which they are.
    """
    leases, topics = Leases(redis, prefix), await cluster.topics()
    for stream in Stream:
        key, topic = redis_stream(prefix, stream), kafka_topic(prefix, topic_of(stream))
        owner = await leases.owner(key)
        if owner:
            return f"mirror {owner} holds {stream.value}: stop all mirrors (a killed one's lease runs out by itself)"
        stored = parse_id((await leases.read_position(key)).get("position", str(START)))
        for number in range(topics.get(topic, 0)):
            tail = await cluster.read_tail(Partition(topic, number), _TAIL_COUNT)
            for seen in map(seen_in, tail):  # fences may stand last
                if seen is not None and seen.id > stored:
                    return f"the last mirror of {stream.value} was killed in the midst of a batch: run one, and stop it"
    return ""


def by_topic(places: Mapping[Partition, int]) -> dict[str, int]:
    """Numbers of partitions, added up by topic."""
    found: dict[str, int] = defaultdict(int)
    for place, number in places.items():
        found[place.topic] += number
    return dict(found)
