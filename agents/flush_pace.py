"""How long a partition waits before its next flush. Pure; the caller gives monotonic time.

A flush writes each changed row once, however often it changed. Under a backlog it pays to wait, so that a hot row is
written less often; on a quiet topic it does not, since nothing else wants the time. So the pause is made of two things:
what the last flush cost (with that pause, all partitions together spend BUSY_SHARE of the time on making rows and
messages), and how fast records come: at FAST_RECORDS_PER_S it is the whole of it, at 250 a second a hundredth.

And it ends when a backlog does: once no partition of the agent was given a record for QUIET_S, there is nothing left to
save the time for.
"""

from __future__ import annotations

from dataclasses import dataclass

BUSY_SHARE = 0.1
LONGEST_PAUSE_S = 1.0
FAST_RECORDS_PER_S = 25_000
# Longer than a fetch or a flush under a backlog takes.
QUIET_S = 0.1


@dataclass
class Arrivals:
    """When a record last came, to any partition of an agent; they share it."""

    newest_s: float = float("-inf")


class FlushPace:
    """The pace of one partition's flushes."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._began_s = float("-inf")
        self._cost_s = 0.0

    def folded(self, now_s: float) -> None:
        """Records came."""
        self._arrivals.newest_s = now_s

    def flushed(self, began_s: float, made_s: float) -> None:
        """A flush began at `began_s`, and its effects were made (not yet sent) at `made_s`."""
        self._began_s, self._cost_s = began_s, made_s - began_s

    def pause_s(self, now_s: float, *, partitions: int, records: int) -> float:
        """How long to wait from `now_s` before asking again; 0: flush.

        Args:
            now_s: monotonic.
            partitions: how many share the processor.
            records: how many were folded since the last flush began.
        """
        since_s = now_s - self._began_s
        haste = min(1.0, records / (max(since_s, 0.001) * FAST_RECORDS_PER_S))
        between_s = haste * min(LONGEST_PAUSE_S, self._cost_s * partitions / BUSY_SHARE)
        quiet_in_s = self._arrivals.newest_s + QUIET_S - now_s
        return max(0.0, min(between_s - since_s, quiet_in_s))
