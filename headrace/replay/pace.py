"""How fast a replay may read. Pure."""

from __future__ import annotations

from runtime.clock import Clock


class Pace:
    """Holds reading to `rate_per_s` records a second on average; None: no limit."""

    def __init__(self, rate_per_s: float | None, clock: Clock) -> None:
        self._rate_per_s = rate_per_s
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._done = 0

    def pause_s(self, records: int) -> float:
        """How long to wait after so many more records; a pause that was longer than asked for is not made up for."""
        if self._rate_per_s is None:
            return 0.0
        now_s = self._clock.monotonic_s()
        due_s = self._began_s + (self._done + records) / self._rate_per_s
        self._done += records
        if due_s < now_s:
            self._began_s, self._done = now_s, 0
        return max(0.0, due_s - now_s)
