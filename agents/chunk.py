"""What the runner hands to a partition: records that were delivered, and how to acknowledge them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from agents.effects import Effects
    from streams.record_chunk import RecordChunk

Acknowledge: TypeAlias = Callable[[], Awaitable[object]]


class Chunk:
    """A delivered chunk and how to acknowledge it; the runner's view of a Faust event.

    `is_back`: its records are dead letters that come back over the agent's retry topic.
    """

    __slots__ = ("acknowledge", "is_back", "partition", "records")

    def __init__(
        self, partition: int, records: RecordChunk, acknowledge: Acknowledge, *, is_back: bool = False
    ) -> None:
        self.partition = partition
        self.records = records
        self.acknowledge = acknowledge
        self.is_back = is_back


class MissingChunk(Exception):  # noqa: N818 - it ends the process, and nobody catches it
    """A delivered chunk never reached the agent (Faust lost it): what comes behind it must not be folded."""

    def __init__(self, agent: str, partition: int, folded_to: int | None, after: int, begins: int) -> None:
        super().__init__(
            f"agent {agent}, partition {partition}: a chunk that begins at offset {begins} was delivered after "
            f"one that ends at {after}, but what was folded ends at {folded_to}"
        )


class Folded(NamedTuple):
    """What is left of a chunk when its records are let go: how to acknowledge it, how many there were, the last one."""

    acknowledge: Acknowledge
    records: int
    last: int
    is_back: bool

    @classmethod
    def of(cls, chunk: Chunk) -> Folded:
        """Of a chunk that has just been folded."""
        return cls(chunk.acknowledge, len(chunk.records), chunk.records.offsets[-1], chunk.is_back)

    def is_finished(self, effects: Effects) -> bool:
        """Whether nothing more is to be done with it when these effects are durable."""
        first_open = effects.back_from if self.is_back else effects.source_from
        return first_open is None or self.last < first_open


def split(folded: Sequence[Folded], effects: Effects) -> tuple[list[Folded], list[Folded]]:
    """Which chunks are finished with these effects, and which are not."""
    finished = [each for each in folded if each.is_finished(effects)]
    return finished, [each for each in folded if not each.is_finished(effects)]
