"""Totals over a moving range of values, at three merges a step however long the range is. Pure.

States can be merged but not subtracted (a maximum forgets what it was before). Two stacks do without subtraction
(Tangwongsan, Hirzel, Schneider: "Low-latency sliding-window aggregation in worst-case constant time", DEBS 2017,
section 3): the older half is kept as totals of each suffix, the newer half as one total.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Sliding(Generic[T]):
    """Values at ascending positions; `merge` is associative and takes the older argument first."""

    def __init__(self, merge: Callable[[T, T], T]) -> None:
        self._merge = merge
        # Oldest last, each with the total of itself and all that is newer in this list.
        self._older: list[tuple[int, T]] = []
        self._newer: list[tuple[int, T]] = []
        self._newer_total: T | None = None

    def push(self, at: int, value: T) -> None:
        """Add a value behind all others."""
        self._newer.append((at, value))
        self._newer_total = value if self._newer_total is None else self._merge(self._newer_total, value)

    def drop_before(self, at: int) -> int:
        """Forget the values at positions below `at`; returns how many merges that took."""
        merges = 0
        while self._older or self._newer:
            if not self._older:
                merges += len(self._newer)
                self._turn()
            if self._older[-1][0] >= at:
                break
            self._older.pop()
        return merges

    def total(self) -> T | None:
        """All values as one; None when there are none."""
        if not self._older:
            return self._newer_total
        older = self._older[-1][1]
        return older if self._newer_total is None else self._merge(older, self._newer_total)

    def _turn(self) -> None:
        total: T | None = None
        for at, value in reversed(self._newer):
            total = value if total is None else self._merge(value, total)
            self._older.append((at, total))
        self._newer, self._newer_total = [], None
