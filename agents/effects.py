"""What an agent's work consists of: records in, effects out, nothing awaited. The runner does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.dead_letters import DeadLetter, Recovered
from streams.kafka_log import Outgoing
from streams.record_chunk import RecordChunk
from tables.store import Change


@dataclass(frozen=True)
class Effects:
    """Everything one flush has to make durable, in the order of `agents.owned_partition`'s steps.

    letters: records that cannot be processed; rows: changed table rows; push: records for the push topics;
    aside: records for other topics (late events); row_batches: further changed rows, each batch one changelog record
    batch of its own, after `rows` and in this order, never split or joined; latest: records for push-latest that may be
    lost, since a newer one follows: nothing waits for them; recovered: dead letters that came back and have had their
    effect, when all of this is durable. source_from, back_from: the first offset of the source (of the retry topic)
    with which something is still to be done after this; None: nothing is with all that was folded.
    """

    letters: tuple[DeadLetter, ...] = ()
    rows: tuple[Change, ...] = ()
    push: tuple[Outgoing, ...] = ()
    aside: tuple[Outgoing, ...] = ()
    row_batches: tuple[tuple[Change, ...], ...] = ()
    latest: tuple[Outgoing, ...] = ()
    recovered: tuple[Recovered, ...] = ()
    source_from: int | None = None
    back_from: int | None = None

    def __bool__(self) -> bool:
        return bool(
            self.letters or self.rows or self.push or self.aside or self.row_batches or self.latest or self.recovered
        )


class PartitionWork(Protocol):
    """One agent's state for one partition. It waits for nothing, and reads time only from the clock it was given."""

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """Take in a chunk of records, in offset order. `now_s` is monotonic."""
        ...

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        """Take in dead letters that came back over the agent's retry topic (`agents.come_back`)."""
        ...

    def passed(self, last_offset: int) -> None:
        """Records of the source up to here were delivered; those of them that were not folded never will be."""
        ...

    def take(self, now_s: float) -> Effects:
        """What is to be made durable now. Called again only after `settled`, or never (the partition was revoked)."""
        ...

    def take_rows(self, now_s: float) -> Sequence[Change]:
        """Changed rows that need not wait for the messages of what was taken last, which are under way; may be none.

        What was taken before, rows and all, is in the store. Nothing follows from these rows until the next `take`.
        """
        ...

    def settled(self, effects: Effects) -> None:
        """All of `effects` are durable."""
        ...

    def is_full(self) -> bool:
        """Whether it can take in no more for now, though no server of ours is away."""
        ...

    def is_busy(self) -> bool:
        """Whether it is at something that may take long and ends by itself, so that it only seems to stand still."""
        ...

    def finish(self) -> None:
        """Begin nothing new: the process is about to stop."""
        ...

    def hand_over(self) -> None:
        """Begin nothing new, and have `take` give all that is known here: a work opened from the rows goes on."""
        ...

    def is_drained(self, left_count: int) -> bool:
        """Whether nothing more is to be waited for after `finish`, with so many records not acknowledged."""
        ...

    async def stop(self) -> None:
        """Give up what is under way: the partition is taken away. Waits only for its own tasks to end."""
        ...


class Prompt:
    """The part of a PartitionWork that is the same for all that finish with the next flush what they fold."""

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        """Refuse: an agent whose letters come back has a take_back of its own."""
        del now_s
        raise NotImplementedError(f"records of {chunk.topic} came to an agent that takes none back")

    def passed(self, last_offset: int) -> None:
        """Nothing is held up by what was left out."""

    def is_full(self) -> bool:
        """Never."""
        return False

    def is_busy(self) -> bool:
        """Never."""
        return False

    def finish(self) -> None:
        """Nothing is begun that the next flush does not end."""

    def hand_over(self) -> None:
        """The next flushes give all that there is."""

    def is_drained(self, left_count: int) -> bool:
        """When all is acknowledged."""
        return left_count <= 0

    async def stop(self) -> None:
        """Nothing is under way."""
