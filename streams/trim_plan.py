"""Which entries of a stream may go, decided without touching Redis.

An entry goes when the mirror's position and every live consumer group are past it and `keep` newer ones of
that kind remain (somebody who looks at a stream by hand, or a group that is set up a little late, finds the
recent past).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from streams.mirror_plan import START, StreamId


class _Run(NamedTuple):
    last: StreamId
    entries: int


class Kept:
    """The entries at or below the mirror's position, as runs: those that the mirror no longer needs.

    `count` is exact while nobody else deletes entries; `settle` corrects it whenever the mirror has caught
    up.
    """

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        self.count = 0

    def passed(self, last: StreamId, count: int) -> None:
        """The mirror's position moved over `count` entries to `last`."""
        if count > 0:
            self._runs.append(_Run(last, count))
            self.count += count

    def settle(self, length: int) -> None:
        """The mirror has caught up: everything in the stream is kept, which is `length` entries."""
        self.count = length

    def trimmed(self, count: int) -> None:
        """Redis removed `count` of the oldest entries (whole nodes, so fewer than were allowed)."""
        self.count = max(0, self.count - count)
        while self._runs and sum(run.entries for run in self._runs) - self._runs[0].entries >= self.count:
            self._runs.popleft()

    def min_id(self, keep: int, readers: list[StreamId]) -> StreamId | None:
        """The lowest id that must stay, or None when nothing may go.

        `readers`: for each live consumer group the lowest id that it still needs.
        """
        spare = self.count - keep
        cut = START
        for run in self._runs:
            spare -= run.entries
            if spare < 0:
                break
            cut = run.last.next()
        cut = min([cut, *readers])
        return cut if cut > START else None
