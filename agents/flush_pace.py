"""How long a partition waits before its next flush. Pure; the caller gives monotonic time.

A flush writes each changed row once, however often it changed: under a backlog it pays to wait, so that a hot row is
written less often; on a quiet topic it does not. So the pause grows with what the last flush cost the processor: all
partitions together spend at most BUSY_SHARE of their time on making rows and messages. A quiet flush costs a fraction
of a millisecond and is followed by the next one within milliseconds.
"""

from __future__ import annotations

BUSY_SHARE = 0.1
LONGEST_PAUSE_S = 1.0


class FlushPace:
    """The pace of one partition's flushes."""

    def __init__(self) -> None:
        self._began_s = float("-inf")
        self._cost_s = 0.0

    def flushed(self, began_s: float, made_s: float) -> None:
        """A flush began at `began_s`, and its effects were made (not yet sent) at `made_s`."""
        self._began_s, self._cost_s = began_s, made_s - began_s

    def pause_s(self, now_s: float, partitions: int) -> float:
        """How long to wait from `now_s`, when so many partitions share the processor; 0: not at all."""
        between_s = min(LONGEST_PAUSE_S, self._cost_s * partitions / BUSY_SHARE)
        return max(0.0, self._began_s + between_s - now_s)
