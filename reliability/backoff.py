"""How long to wait before trying again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.clock import Clock

# 2**attempt beyond this is above any cap that makes sense, and would one day overflow a float.
_MAX_DOUBLINGS = 60


def ceiling_s(attempt: int, *, base_s: float, cap_s: float) -> float:
    """The longest wait before try number `attempt + 1`: `base_s` doubled `attempt` times, at most `cap_s`.

    Args:
        attempt: failures so far in a row, less one; 0 is the first wait. Negative counts as 0.
        base_s: ceiling of the first wait, in seconds (> 0).
        cap_s: ceiling of every wait, in seconds.
    """
    return float(min(cap_s, base_s * 2 ** min(max(attempt, 0), _MAX_DOUBLINGS)))


def full_jitter_s(attempt: int, *, base_s: float, cap_s: float, clock: Clock) -> float:
    """A random wait in [0, ceiling_s(attempt)]: clients that failed together do not come back together."""
    return clock.uniform(0.0, ceiling_s(attempt, base_s=base_s, cap_s=cap_s))
