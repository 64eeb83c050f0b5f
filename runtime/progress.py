"""Do reading and committing go on? A pure state machine over what is seen of each partition from time to time.

A consumer may stop without a sign: a lost queue, a task that ended silently, an acknowledgement that never came (some
open issues of Faust). Then records stand after the committed offset, nothing is committed, and nobody is told. Whoever
asks here at steady intervals learns it, and can end the process: its successor starts from what is committed.

    fresh --(nothing to do, or it advanced, or it is excused)--> fresh, since = now
    fresh --(records to do, not excused, same position)--------> due since `since`
    due for limit_s ---------------------------------------------> stalled
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True)
class Standing:
    """How far one partition is at one look. Offsets: `done` is the next one to do, `end` the one after the last."""

    done: int
    end: int
    excused: bool = False
    """It waits for a server that is away, or for its turn: standing still says nothing."""


@dataclass(frozen=True)
class Stall(Generic[Place]):
    """A partition with records to do that stood still for `for_s` seconds."""

    place: Place
    standing: Standing
    for_s: float


class Progress(Generic[Place]):
    """Remembers for each partition since when it has stood still with work to do."""

    def __init__(self) -> None:
        self._seen: dict[Place, tuple[int, float]] = {}

    def look(self, standings: Mapping[Place, Standing], now_s: float) -> list[Stall[Place]]:
        """Take in a look at all partitions that are ours; those that stand still come back, the longest one first.

        `now_s` is monotonic. A partition that is not among them is forgotten: it is somebody else's.
        """
        seen: dict[Place, tuple[int, float]] = {}
        stalls = []
        for place, standing in standings.items():
            done, since_s = self._seen.get(place, (standing.done, now_s))
            if standing.excused or standing.done >= standing.end or standing.done != done:
                since_s = now_s
            seen[place] = (standing.done, since_s)
            if since_s < now_s:
                stalls.append(Stall(place, standing, now_s - since_s))
        self._seen = seen
        return sorted(stalls, key=lambda stall: stall.for_s, reverse=True)
