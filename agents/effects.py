"""What an agent's work consists of: records in, effects out, nothing awaited. The runner does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.dead_letters import DeadLetter
from streams.kafka_log import Outgoing
from streams.record_chunk import RecordChunk
from tables.store import Change


@dataclass(frozen=True)
class Effects:
    """Everything one flush has to make durable, in the order of `agents.owned_partition`'s steps.

    letters: records that cannot be processed; rows: changed table rows; push: records for the push topics;
    aside: records for other topics (late events); row_batches: further changed rows, each batch one changelog record
    batch of its own, after `rows` and in this order, never split or joined; latest: records for push-latest that may be
    lost, since a newer one follows: nothing waits for them.
    """

    letters: tuple[DeadLetter, ...] = ()
    rows: tuple[Change, ...] = ()
    push: tuple[Outgoing, ...] = ()
    aside: tuple[Outgoing, ...] = ()
    row_batches: tuple[tuple[Change, ...], ...] = ()
    latest: tuple[Outgoing, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.letters or self.rows or self.push or self.aside or self.row_batches or self.latest)


class PartitionWork(Protocol):
    """One agent's state for one partition. It waits for nothing, and reads time only from the clock it was given."""

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """Take in a chunk of records, in offset order. `now_s` is monotonic."""
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
