"""The only module that reads the wall clock, the monotonic clock and randomness.

Everything else is handed a :class:`Clock`, so that a test moves time by hand and a property test repeats its draws.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where a module gets its time and its random numbers from."""

    def now(self) -> datetime:
        """Current wall time, aware, in UTC."""
        ...

    def wall_s(self) -> float:
        """Current wall time in seconds since the Unix epoch."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Current wall time, aware, in UTC."""
        return datetime.now(UTC)

    def wall_s(self) -> float:
        """Current wall time in seconds since the Unix epoch."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def uniform(self, low: float, high: float) -> float:
        """A random number in [low, high]; not for secrets."""
        return random.uniform(low, high)


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime, *, seed: int = 1) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._random = random.Random(seed)

    def now(self) -> datetime:
        """The start time plus all that `advance` added."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def wall_s(self) -> float:
        """`now` in seconds since the Unix epoch."""
        return self.now().timestamp()

    def monotonic_s(self) -> float:
        """All that `advance` added, in seconds."""
        return self._elapsed_s

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high] from the seeded generator."""
        return self._random.uniform(low, high)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds` (>= 0)."""
        if seconds < 0:
            msg = f"a clock cannot go back: advance({seconds})"
            raise ValueError(msg)
        self._elapsed_s += seconds
