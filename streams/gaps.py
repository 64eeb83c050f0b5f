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
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from runtime.logs import get_logger

if TYPE_CHECKING:
    from runtime.settings import KafkaSettings
    from streams.records import Record

_log = get_logger(__name__)

WAIT_S = 1.0
# Time alone does not say that the broker was asked: reader or broker may have stood still.
LEAST_LOOKS = 20
# Between two looks. So a wait takes fewer of them than `streams.log_range` allows empty answers.
LOOK_S = 0.02
# What was found out about a gap is forgotten when nobody has come to it for so long.
FORGET_S = 60.0


class _Place(NamedTuple):
    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class _Gap:
    since_s: float
    seen_s: float
    looks: int = 0
    is_for_good: bool = False


class Gaps:
    """The gaps that were found lately, for one reader or several; they ask in an event loop."""

    def __init__(self) -> None:
        self._found: dict[_Place, _Gap] = {}
        self._waited = False

    def may_take(self, topic: str, partition: int, position: int, first: int) -> bool:
        """Whether a reader that stands at `position` may take records that begin at the offset `first`."""
        if first > position:
            return self._is_for_good(_Place(topic, partition, position))
        if self._found:
            self._found.pop(_Place(topic, partition, position), None)
        return True

    def before(self, position: int, records: list[Record], next_offset: int) -> tuple[list[Record], int]:
        """Of records of one partition, read from `position` on, those that may be taken, and where to go on."""
        expected = position
        for index, record in enumerate(records):
            if not self.may_take(record.topic, record.partition, expected, record.offset):
                return records[:index], expected
            expected = record.offset + 1
        return records, next_offset

    async def pause(self) -> None:
        """A moment, if a gap was waited for since the last call: the broker would be asked without end."""
        waited, self._waited = self._waited, False
        if waited:
            await asyncio.sleep(LOOK_S)

    def _is_for_good(self, place: _Place) -> bool:
        now_s = asyncio.get_running_loop().time()
        gap = self._found.get(place)
        if gap is None:
            self._found = {at: old for at, old in self._found.items() if now_s - old.seen_s < FORGET_S}
            gap = self._found[place] = _Gap(now_s, now_s)
        gap.looks, gap.seen_s = gap.looks + 1, now_s
        if not gap.is_for_good and gap.looks > LEAST_LOOKS and now_s - gap.since_s >= WAIT_S:
            gap.is_for_good = True
            _log.warning("offsets are missing for good", **place._asdict())
        self._waited = self._waited or not gap.is_for_good
        return gap.is_for_good


def gaps_of(settings: KafkaSettings) -> Gaps | None:
    """What readers of this cluster need; None: its logs may have gaps, and show batches in order."""
    return None if settings.idempotence else Gaps()
