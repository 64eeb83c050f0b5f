"""Leaves out of what a worker reads of a mirrored topic what does not count (`streams.epochs`).

Where it stands: `streams.batch_thread` calls it around each drain, in its thread. The highest epoch before a position
is known for the position that the last drain ended at; at any other one (after a start, a rebalance or a seek) the log
is looked back into first. So what counts never depends on where a worker began to read, nor on what it read before.

It leans on aiokafka 0.14 (TopicPartitionState._position), as `streams.log_ends` does.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from contracts.errors import ServerMissing
from runtime.logs import get_logger
from streams.epochs import Epochs, admitted
from streams.gaps import gaps_of
from streams.log_range import LogRange
from streams.records import Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from runtime.settings import KafkaSettings
    from streams.record_chunk import Run

_log = get_logger(__name__)


class Passed(NamedTuple):
    """A drain's end. `last`: the last offset ever handed out, -1 for none; `position`: behind all that was read.

    What lies between the two has no event: marks of transactions, fences, records that do not count.
    """

    last: int
    position: int


class SourceEpochs:
    """Of the partitions of one consumer; `topics` are the mirrored ones, all others are let through."""

    def __init__(self, settings: KafkaSettings, topics: Collection[str]) -> None:
        self._settings = settings
        self.gaps = gaps_of(settings)
        self._topics = frozenset(topics)
        self._epochs: Epochs[Any] = Epochs()
        self._known_at: dict[Any, int] = {}
        self.passed: dict[Any, Passed] = {}

    def knows(self, source: Any, tp: Any) -> bool:  # noqa: ANN401 - aiokafka has no types
        """Whether what the fetcher `source` holds of a partition may be drained now."""
        return tp.topic not in self._topics or self._known_at.get(tp) == position_of(source, tp)

    async def look_back(self, source: Any, partitions: Iterable[Any]) -> None:  # noqa: ANN401 - the same
        """Look at what stands before the positions that are not known; without the broker they stay unknown."""
        asked = {tp: position_of(source, tp) for tp in partitions if not self.knows(source, tp)}
        wanted = {tp: at for tp, at in asked.items() if at is not None}
        if not wanted:
            return
        log = LogRange(self._settings)
        log.gaps = self.gaps
        try:
            await log.start()
            for tp, at in wanted.items():
                self._epochs.begin(tp, await log.highest_before(Partition(tp.topic, tp.partition), at))
                self._known_at[tp] = at
        except ServerMissing as error:
            _log.warning("what stands before the position is not known yet", error=str(error))
        finally:
            with suppress(ServerMissing):
                await log.stop()

    def admitted(self, source: Any, tp: Any, runs: Sequence[Run]) -> list[Run]:  # noqa: ANN401 - the same
        """The runs that count of those that were just drained; call it before anything else moves the position."""
        kept = self._epochs.admit_runs(tp, runs) if tp.topic in self._topics else list(runs)
        position = position_of(source, tp)
        if position is not None:
            self._known_at[tp] = position
            handed_out = kept[-1].records[-1].offset if kept else self.passed.get(tp, Passed(-1, 0)).last
            self.passed[tp] = Passed(handed_out, position)
        return kept

    def without_fences(self, found: Mapping[Any, list[Any]]) -> dict[Any, list[Any]]:
        """What was read record by record, where aiokafka is not the one that is known here: as much as is safe."""
        return {tp: admitted(records) if tp.topic in self._topics else records for tp, records in found.items()}

    def passed_to(self, tp: Any, done: int) -> int:  # noqa: ANN401 - the same
        """How far a partition is done of which all offsets below `done` are; for any thread.

        Beyond `done` where nothing was handed out since but what has no event was read: else it would look like a
        backlog for ever. What was handed out is never forgotten, so that a seek cannot make it look done.
        """
        passed = self.passed.get(tp)
        return passed.position if passed is not None and passed.last < done <= passed.position else done


def position_of(source: Any, tp: Any) -> int | None:  # noqa: ANN401 - aiokafka has no types
    """The offset that is handed out next; None while it is being looked up, and for partitions of others."""
    subscription = source._subscriptions.subscription  # noqa: SLF001
    assignment = None if subscription is None else subscription.assignment
    if assignment is None or tp not in assignment.tps:
        return None
    position: int | None = assignment.state_value(tp)._position  # noqa: SLF001
    return position
