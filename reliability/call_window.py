"""The last calls to a dependency, as counts: by number (the last 100) or by time (the last 30 s). Deterministic.

Adding a call and reading the counts take the same time whatever the window holds.
"""

from __future__ import annotations

from typing import Protocol

# What a call was, as bits; a slow call that failed is both.
GOOD, FAILED, SLOW = 0, 1, 2
_NONE = 4
_SLICES = 10


class Window(Protocol):
    """Counts over the last calls."""

    calls: int
    failed: int
    slow: int

    def add(self, call: int, now_s: float) -> None:
        """Count a call (GOOD, or FAILED and SLOW added up) at `now_s`, monotonic seconds that never go back."""
        ...

    def look(self, now_s: float) -> None:
        """Let go of what is too old, so that the counts hold at `now_s`."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


class CountWindow:
    """The last `size` calls, one byte each."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.calls = self.failed = self.slow = self._at = 0
        self._ring = bytearray([_NONE]) * self._size

    def add(self, call: int, now_s: float) -> None:
        """Count a call in the place of the oldest one."""
        del now_s
        at = self._at
        old = self._ring[at]
        self._at = at + 1 if at + 1 < self._size else 0
        if old == _NONE:
            self.calls += 1
        elif old:
            self.failed -= old & FAILED
            self.slow -= (old & SLOW) >> 1
        self._ring[at] = call
        if call:
            self.failed += call & FAILED
            self.slow += (call & SLOW) >> 1

    def look(self, now_s: float) -> None:
        """Nothing here grows old."""


class TimeWindow:
    """Calls of the last `length_s` seconds, in ten slices; the oldest slice goes as a whole.

    So the counts cover between nine tenths of `length_s` and all of it.
    """

    def __init__(self, length_s: float) -> None:
        self._slice_s = length_s / _SLICES
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.calls = self.failed = self.slow = 0
        self._newest = 0
        self._slices = [[0, 0, 0] for _ in range(_SLICES)]

    def add(self, call: int, now_s: float) -> None:
        """Count a call at `now_s`."""
        self.look(now_s)
        counts = self._slices[self._newest % _SLICES]
        counts[0] += 1
        self.calls += 1
        if call:
            failed, slow = call & FAILED, (call & SLOW) >> 1
            counts[1] += failed
            counts[2] += slow
            self.failed += failed
            self.slow += slow

    def look(self, now_s: float) -> None:
        """Let go of the slices that are out of the window at `now_s`."""
        newest = int(now_s / self._slice_s)
        for number in range(max(self._newest + 1, newest - _SLICES + 1), newest + 1):
            counts = self._slices[number % _SLICES]
            self.calls -= counts[0]
            self.failed -= counts[1]
            self.slow -= counts[2]
            counts[:] = (0, 0, 0)
        self._newest = max(self._newest, newest)
