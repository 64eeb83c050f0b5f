"""Which windows of a partition are there, and which of them have something to tell. Pure.

Memory: one number for each window start that has rows, and one key for each row that is still to be told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tables.rows import WindowKey


class WindowIndex:
    """Starts of windows with rows, and keys of rows whose last change has not been pushed."""

    def __init__(self) -> None:
        self._starts: set[int] = set()
        self._untold: dict[int, set[WindowKey]] = {}

    def add(self, key: WindowKey) -> None:
        """There is a row of this window."""
        self._starts.add(key.start_ms)

    def changed(self, key: WindowKey) -> None:
        """The row holds something that has not been told."""
        self._starts.add(key.start_ms)
        self._untold.setdefault(key.start_ms, set()).add(key)

    def told(self, key: WindowKey) -> None:
        """All that the row holds has been told."""
        untold = self._untold.get(key.start_ms)
        if untold is not None:
            untold.discard(key)
            if not untold:
                del self._untold[key.start_ms]

    def untold_until(self, last_ms: int) -> Iterator[WindowKey]:
        """Keys with something to tell whose windows start at `last_ms` or before, oldest first."""
        for start_ms in sorted(start for start in self._untold if start <= last_ms):
            yield from self._untold[start_ms]

    def untold_of(self, start_ms: int) -> Collection[WindowKey]:
        """Keys of one window start with something to tell."""
        return self._untold.get(start_ms, ())

    def starts_until(self, last_ms: int) -> list[int]:
        """Window starts with rows, up to `last_ms`, ascending."""
        return sorted(start for start in self._starts if start <= last_ms)

    def emptied(self, start_ms: int) -> None:
        """No row of this window start is left."""
        self._starts.discard(start_ms)
