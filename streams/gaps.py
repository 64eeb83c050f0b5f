"""Offsets that are missing in the middle of a log are waited for, on a broker that shows a batch too soon.

The embedded broker gives a batch its offsets first and puts it into the log afterwards. Of two producers' batches the
later one may so be seen while the one before it is still missing (docs/decisions/0025 has figures). A reader that went
on would never see the other. That log has no gaps of its own, so a gap is waited for; one that stays for WAIT_S is one
for good.

Where it stands: `streams.kafka_log` and `streams.batch_thread` ask it when `kafka.idempotence` is off, which is only
for that broker. Apache Kafka shows batches in order, and its logs have gaps of their own (marks of transactions).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from runtime.logs import get_logger
from streams.records import Partition

if TYPE_CHECKING:
    from streams.records import Record

_log = get_logger(__name__)

WAIT_S = 1.0
# Between two looks at a gap.
LOOK_S = 0.01


class _Gap(NamedTuple):
    offset: int
    since_s: float


class Gaps:
    """The gaps of one reader, which asks in its event loop. Costs a comparison for each batch."""

    def __init__(self) -> None:
        self._open: dict[Partition, _Gap] = {}

    def may_go_on(self, topic: str, number: int, missing: int) -> bool:
        """Whether a reader of a partition may go on beyond a gap that begins at the offset `missing`."""
        place, now_s = Partition(topic, number), asyncio.get_running_loop().time()
        gap = self._open.get(place)
        if gap is None or gap.offset != missing:
            self._open[place] = _Gap(missing, now_s)
            return False
        if now_s - gap.since_s < WAIT_S:
            return False
        _log.warning("offsets are missing for good", topic=topic, partition=number, first=missing)
        del self._open[place]
        return True

    def before(self, position: int, records: list[Record], next_offset: int) -> tuple[list[Record], int]:
        """Of records of one partition, read from `position` on, those that may be taken, and where to go on."""
        expected = position
        for index, record in enumerate(records):
            if record.offset > expected and not self.may_go_on(record.topic, record.partition, expected):
                return records[:index], expected
            expected = record.offset + 1
        return records, next_offset

    async def pause(self) -> None:
        """A moment, if there was a gap lately: the broker would be asked without end."""
        now_s = asyncio.get_running_loop().time()
        if any(now_s - gap.since_s < WAIT_S for gap in self._open.values()):
            await asyncio.sleep(LOOK_S)
