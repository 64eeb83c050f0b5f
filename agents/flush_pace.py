"""How long a partition waits before its next flush. Pure; the caller gives monotonic time.

A flush writes each changed row once, however often it changed. Under a backlog it pays to wait, so that a hot row is
written less often; on a quiet topic it does not, since nothing else wants the time. So the pause is made of two things:
what the last flush cost (with that pause, all partitions together spend BUSY_SHARE of the time on making rows and
messages), and how fast records come: at FAST_RECORDS_PER_S it is the whole of it, at 250 a second a hundredth.
"""

from __future__ import annotations

BUSY_SHARE = 0.1
LONGEST_PAUSE_S = 1.0
FAST_RECORDS_PER_S = 25_000


class FlushPace:
    """The pace of one partition's flushes."""

    def __init__(self) -> None:
        self._began_s = float("-inf")
        self._cost_s = 0.0

    def flushed(self, began_s: float, made_s: float) -> None:
        """A flush began at `began_s`, and its effects were made (not yet sent) at `made_s`."""
        self._began_s, self._cost_s = began_s, made_s - began_s

    def pause_s(self, now_s: float, *, partitions: int, records: int) -> float:
        """How long to wait from `now_s`; 0: not at all.

        Args:
            now_s: monotonic.
            partitions: how many share the processor.
            records: how many were folded since the last flush began.
        """
        since_s = now_s - self._began_s
        haste = min(1.0, records / (max(since_s, 0.001) * FAST_RECORDS_PER_S))
        between_s = haste * min(LONGEST_PAUSE_S, self._cost_s * partitions / BUSY_SHARE)
        return max(0.0, between_s - since_s)
