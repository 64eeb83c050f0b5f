"""Byte strings in order, with cheap additions and removals anywhere. Pure.

A list of sorted lists of at most 2 * LOAD keys: an addition moves a few kilobytes however many keys there are. One
sorted list of a million keys would move eight megabytes for a key at its front, and expiry removes at the front.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOAD = 512


class SortedKeys:
    """A set of keys that can be walked in order."""

    def __init__(self) -> None:
        self._pieces: list[list[bytes]] = []
        self._highest: list[bytes] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: bytes) -> None:
        """Take in a key that is not there yet."""
        self._count += 1
        if not self._pieces:
            self._pieces, self._highest = [[key]], [key]
            return
        at = min(bisect_left(self._highest, key), len(self._pieces) - 1)
        piece = self._pieces[at]
        insort(piece, key)
        if len(piece) > 2 * LOAD:
            self._pieces[at : at + 1] = [piece[:LOAD], piece[LOAD:]]
            self._highest[at : at + 1] = [piece[LOAD - 1], piece[-1]]
        else:
            self._highest[at] = piece[-1]

    def remove(self, key: bytes) -> None:
        """Take out a key that is there."""
        self._count -= 1
        at = bisect_left(self._highest, key)
        piece = self._pieces[at]
        del piece[bisect_left(piece, key)]
        if piece:
            self._highest[at] = piece[-1]
        else:
            del self._pieces[at], self._highest[at]

    def between(self, lower: bytes, upper: bytes | None) -> Iterator[bytes]:
        """Keys in [lower, upper), in order; None: to the end. The set may change meanwhile.

        A key that comes or goes during the walk may be met or not; every other key is met once.
        """
        while (piece := self._from(lower)) is not None:
            for key in piece:
                if upper is not None and key >= upper:
                    return
                yield key
            lower = piece[-1] + b"\0"

    def _from(self, lower: bytes) -> list[bytes] | None:
        """A copy of the rest of the piece in which `lower` stands or would stand; None at the end."""
        at = bisect_left(self._highest, lower)
        if at == len(self._pieces):
            return None
        piece = self._pieces[at]
        return piece[bisect_left(piece, lower) :]
