"""Letters that came back to an agent with a table, until a flush takes them in. Pure.

Where it stands: `agents.window_letters` and `agents.experiments` put here what comes over their retry topic, and take
some with each flush: so few that what they change fits in one record batch of the changelog, with the number that says
that they were taken in. So a crash leaves both or neither.

None is taken before the source was read to its end once. A former owner that was frozen may write late what it had
read, without the letters; of two versions of a row the one stays that has read further, and that has to be ours
(docs/decisions/0024).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from agents.come_back import CameBack, Letter

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.dead_letters import DeadLetter, Recovered
    from streams.record_chunk import RecordChunk
    from tables.store import Change

# A letter changes one or two rows of a few KB; a record batch holds 1 MB.
AT_ONCE = 20


class LetterQueue:
    """The letters of one consumer and partition, in the order of their numbers."""

    def __init__(self, consumer: str, row: bytes | None, was_at_end: Callable[[], bool] = lambda: True) -> None:
        """`row`: see `agents.come_back`. `was_at_end`: whether the source was read to its end since the row was."""
        self._came_back = CameBack(consumer, row)
        self._was_at_end = was_at_end
        self._waiting: deque[Letter] = deque()

    def put(self, chunk: RecordChunk) -> list[DeadLetter]:
        """Queue the letters that were not taken in before; gives a dead letter for each record that is none."""
        found = list(self._came_back.new(chunk))
        self._waiting += [each for each in found if isinstance(each, Letter)]
        return [each for each in found if not isinstance(each, Letter)]

    def take(self) -> list[Letter]:
        """The next letters: what they change has to be in this flush, with `take_change`."""
        count = min(AT_ONCE, len(self._waiting)) if self._was_at_end() else 0
        taken = [self._waiting.popleft() for _ in range(count)]
        if taken:
            self._came_back.taken(taken[-1])
        return taken

    def hand_over(self) -> None:
        """Let none wait for the source's end: it is not read on before they are taken."""
        self._was_at_end = lambda: True

    def died(self, letter: Letter) -> None:
        """A letter that was taken is dead again."""
        self._came_back.died(letter)

    def take_untold(self) -> list[Recovered]:
        """Letters that were taken in for good before, of which PostgreSQL may not have been told."""
        return self._came_back.take_untold()

    def settled(self) -> None:
        """What was taken is durable and told."""
        self._came_back.settled()

    def take_change(self) -> Change | None:
        """The row of the highest number that was taken, when it has risen."""
        return self._came_back.take_change()

    @property
    def first_open(self) -> int | None:
        """The offset on the retry topic of the first letter that waits; None: none does."""
        return self._waiting[0].at if self._waiting else None
