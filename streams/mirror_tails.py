"""What Kafka holds of a stream, read from the ends of its partitions into a `streams.mirror_plan.Memory`."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from streams import log_tail
from streams.mirror_plan import Memory
from streams.records import Partition

if TYPE_CHECKING:
    from streams.kafka_log import Cluster
    from streams.mirror_plan import StreamId

# Offsets of a partition beyond which nobody looks back; a minute's reading, and some 200 MB of ids.
_DEEPEST = 1_000_000


async def remembered(cluster: Cluster, topic: str, partitions: int, count: int) -> Memory:
    """The last `count` offsets of each partition. Raises ServerMissing."""
    memory = Memory()
    for number in range(partitions):
        place = Partition(topic, number)
        end = (await cluster.true_end_offsets([place]))[place]
        start = max((await cluster.begin_offsets([place]))[place], end - count)
        memory.begin(place, start)
        async with aclosing(log_tail.pieces(cluster, place, start, end)) as tail:
            async for records in tail:
                memory.learn(place, records)
    return memory


async def deeper(
    cluster: Cluster, topic: str, partitions: int, memory: Memory, first: StreamId, *, count: int
) -> Memory:
    """`memory`, which came of `count` offsets, or one of so many that every entry from `first` on would be found."""
    known = -1
    while not memory.reaches(first) and known < memory.count and count < _DEEPEST:
        count, known = 8 * count, memory.count
        memory = await remembered(cluster, topic, partitions, count)
    return memory
