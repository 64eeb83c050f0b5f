"""How late the event loop comes: what a process that is short of processor feels, before its clients do."""

from __future__ import annotations

import asyncio
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reliability.load_metrics import LoadMetrics
    from runtime.clock import Clock

EVERY_S = 0.1
# One pause of the garbage collector is no overload: half of a second's samples have to be late.
SAMPLES = 10


class LoopLag:
    """Samples the loop that runs `run`."""

    def __init__(self, clock: Clock, metrics: LoadMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._late_s: deque[float] = deque(maxlen=SAMPLES)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            asked_s = self._clock.monotonic_s()
            await asyncio.sleep(EVERY_S)
            self.note(max(0.0, self._clock.monotonic_s() - asked_s - EVERY_S))

    def note(self, late_s: float) -> None:
        """Take a sample."""
        self._late_s.append(late_s)
        self._metrics.loop_lag.observe(late_s)

    def seconds(self) -> float:
        """The median of the last second's samples; 0 before there are any."""
        return median(self._late_s) if self._late_s else 0.0
