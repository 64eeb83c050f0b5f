"""Window starts that exist, as ranges: traffic is nearly without gaps, so an hour of windows is two numbers. Pure."""

from __future__ import annotations

from bisect import bisect_right


class StartRanges:
    """A set of multiples of `size_ms`, taken from its beginning."""

    def __init__(self, size_ms: int) -> None:
        self._size_ms = size_ms
        # Disjoint, ascending, never adjacent: [low, high], both included.
        self._ranges: list[list[int]] = []

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, start_ms: int) -> None:
        """Put a start in; one that is there changes nothing."""
        ranges, size_ms = self._ranges, self._size_ms
        place = bisect_right(ranges, [start_ms, start_ms]) if ranges and start_ms < ranges[-1][0] else len(ranges)
        if place and start_ms <= ranges[place - 1][1] + size_ms:
            before = ranges[place - 1]
            before[1] = max(before[1], start_ms)
        else:
            before = [start_ms, start_ms]
            ranges.insert(place, before)
            place += 1
        if place < len(ranges) and ranges[place][0] <= before[1] + size_ms:
            before[1] = max(before[1], ranges.pop(place)[1])

    def take(self, last_ms: int, count: int) -> list[int]:
        """Up to `count` starts up to `last_ms`, ascending; they are in it no more."""
        taken: list[int] = []
        while self._ranges and len(taken) < count and self._ranges[0][0] <= last_ms:
            low, high = self._ranges[0]
            found = range(low, min(high, last_ms) + 1, self._size_ms)[: count - len(taken)]
            taken += found
            if found[-1] >= high:
                self._ranges.pop(0)
            else:
                self._ranges[0][0] = found[-1] + self._size_ms
        return taken
