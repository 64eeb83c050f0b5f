"""What processes and their children use, looked at from outside: CPU time and resident memory, 20 times a second."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from contextlib import suppress

import psutil

SAMPLE_S = 0.05
MIB = 1024 * 1024


def at(samples: list[tuple[float, float]], moment_s: float) -> float:
    """A growing quantity at a moment, by linear interpolation between samples (time, value); flat outside them."""
    index = bisect_left(samples, (moment_s,))
    if index == 0:
        return samples[0][1]
    if index == len(samples):
        return samples[-1][1]
    (before_s, before), (after_s, after) = samples[index - 1], samples[index]
    return before + (after - before) * (moment_s - before_s) / (after_s - before_s)


class ProcessWatch:
    """Samples process trees, taken together, until `stop` is called; the CPU clock has a resolution of 10 ms."""

    def __init__(self, *pids: int) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self.cpu: list[tuple[float, float]] = []
        self.peak_rss_bytes = 0
        self._task = asyncio.create_task(self._forever())

    @property
    def peak_rss_mib(self) -> float:
        """Highest resident memory of the tree so far."""
        return self.peak_rss_bytes / MIB

    def cpu_between(self, start_s: float, end_s: float) -> float:
        """CPU seconds (user and system, children included) between two monotonic times."""
        return at(self.cpu, end_s) - at(self.cpu, start_s)

    def sample(self) -> None:
        """Look now."""
        cpu_s, rss = 0.0, 0
        for process in self._all():
            with suppress(psutil.NoSuchProcess), process.oneshot():
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                rss += process.memory_info().rss
        if cpu_s:
            # A child that was just reaped may be counted in neither place for a moment: time never goes back.
            self.cpu.append((time.monotonic(), max(cpu_s, self.cpu[-1][1] if self.cpu else 0.0)))
            self.peak_rss_bytes = max(self.peak_rss_bytes, rss)

    async def stop(self) -> None:
        """End the sampling."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _all(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for root in self._roots:
            with suppress(psutil.NoSuchProcess):
                found += [root, *root.children(recursive=True)]
        return found

    async def _forever(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)
