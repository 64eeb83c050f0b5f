"""The last records of a partition, piece by piece: nobody needs to hold a long tail in memory at once.

Where it stands: `streams.mirror_session` learns from it what Kafka holds, and who begins to read a source topic in the
middle asks for the highest epoch before that (`streams.epochs`).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from streams import epochs
from streams.kafka_log import OffsetGone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from streams.kafka_log import Cluster
    from streams.records import Partition, Record

# Nothing is waited for: what is asked for is there.
_WAIT_MS = 20


async def pieces(cluster: Cluster, place: Partition, start: int, end: int) -> AsyncGenerator[list[Record], None]:
    """The records at offsets [start, end), in the order of the log, as the broker's answers bring them.

    Ends earlier where a transaction is open. Raises ServerMissing, and OffsetGone when retention overtakes the reader.
    """
    at = start
    while at < end:
        for answer in await cluster.fetch({place: at}, max_wait_ms=_WAIT_MS):
            end = min(end, answer.stable_end)
            if answer.records:
                yield [record for record in answer.records if record.offset < end]
            at = answer.next_offset


async def highest_before(cluster: Cluster, place: Partition, offset: int, count: int) -> int:
    """The highest epoch in the `count` records before an offset, as far as the log reaches back; 0 when there is none.

    Raises ServerMissing as the questions of Cluster do.
    """
    begin = (await cluster.begin_offsets([place]))[place]
    found = 0
    try:
        async with aclosing(pieces(cluster, place, max(begin, offset - count), offset)) as tail:
            async for records in tail:
                found = max(found, epochs.highest(records))
    except OffsetGone:
        return found  # retention has removed what was to be looked at: nobody's late records stand there any more
    return found
