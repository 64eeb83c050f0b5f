"""Who has to be looked at again, and when: a heap of moments. Pure.

Each subject has one deadline, the last one that was set. Looking costs what is due, not what is held.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T", bound=tuple[object, ...])

# Entries that a later deadline has made void are cleared away when there are more of them than of others, and so many.
MANY_VOID = 100


class Deadlines(Generic[T]):
    """Deadlines of subjects, in any one unit of time."""

    def __init__(self) -> None:
        self._of: dict[T, float] = {}
        self._heap: list[tuple[float, T]] = []

    def __bool__(self) -> bool:
        return bool(self._of)

    def set(self, subject: T, at: float) -> None:
        """Look at the subject at `at`, and at no other moment."""
        if self._of.get(subject) == at:
            return
        self._of[subject] = at
        heappush(self._heap, (at, subject))
        if len(self._heap) > 2 * len(self._of) + MANY_VOID:
            self._heap = [(at, subject) for subject, at in self._of.items()]
            heapify(self._heap)

    def drop(self, subject: T) -> None:
        """Look at the subject no more."""
        self._of.pop(subject, None)

    def due(self, now: float) -> list[T]:
        """Subjects whose deadline is `now` or before, each once: their deadlines are gone."""
        found: list[T] = []
        while self._heap and self._heap[0][0] <= now:
            at, subject = heappop(self._heap)
            if self._of.get(subject) == at:
                del self._of[subject]
                found.append(subject)
        return found
