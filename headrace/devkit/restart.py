"""When a dead child is started again: at once-ish, then ever later, and quickly again after it held out a while."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """Pauses of first_s, doubling up to longest_s; a child that lived for calm_s starts over at first_s."""

    first_s: float = 0.2
    longest_s: float = 5.0
    calm_s: float = 30.0

    def pause_s(self, failures_in_row: int) -> float:
        """Pause before the next start after this many deaths in a row (>= 1), in seconds."""
        # Beyond 2**30 the answer is longest_s anyway, and the power would grow without bound.
        return float(min(self.longest_s, self.first_s * 2 ** min(failures_in_row - 1, 30)))

    def failures_in_row(self, before: int, alive_s: float) -> int:
        """Deaths in a row, counting the one of a child that has just died after `alive_s` seconds."""
        return 1 if alive_s >= self.calm_s else before + 1
