"""The last records of a partition, piece by piece: nobody needs to hold a long tail in memory at once.

Where it stands: `streams.mirror_tails` learns from it what Kafka holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.kafka_log import OffsetGone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from streams.kafka_log import Cluster
    from streams.records import Partition, Record

# Nothing is waited for: what is asked for is there.
_WAIT_MS = 20


async def pieces(cluster: Cluster, place: Partition, start: int, end: int) -> AsyncGenerator[list[Record], None]:
    """The records at offsets [start, end), in the order of the log, as the broker's answers bring them.

    Ends earlier where a transaction is open; what retention removes meanwhile is left out. Raises ServerMissing.
    """
    at = start
    while at < end:
        try:
            answers = await cluster.fetch({place: at}, max_wait_ms=_WAIT_MS)
        except OffsetGone:
            at = (await cluster.begin_offsets([place]))[place]
            continue
        for answer in answers:
            end = min(end, answer.stable_end)
            if answer.records:
                yield [record for record in answer.records if record.offset < end]
            at = answer.next_offset
