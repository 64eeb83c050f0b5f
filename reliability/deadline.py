"""By when a call has to be over. Pure: a moment on the monotonic clock, passed along by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from runtime.clock import Clock


class Deadline(NamedTuple):
    """A moment in monotonic seconds of this process; it means nothing in another."""

    at_s: float

    def left_s(self, now_s: float) -> float:
        """Seconds until then, 0 when it has passed; infinite for NEVER."""
        return max(0.0, self.at_s - now_s)

    def over(self, now_s: float) -> bool:
        """Whether it has come."""
        return now_s >= self.at_s

    def sooner(self, other: Deadline) -> Deadline:
        """The earlier of both: a call inside another one has no more time than that one."""
        return self if self.at_s <= other.at_s else other


NEVER = Deadline(math.inf)


def after(seconds: float, clock: Clock) -> Deadline:
    """The deadline `seconds` from now (>= 0; infinite gives NEVER)."""
    return Deadline(clock.monotonic_s() + seconds)
