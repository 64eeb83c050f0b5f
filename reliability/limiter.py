"""Rate limits by GCRA, the generic cell rate algorithm: one number a key, exact at every instant. Pure, and in memory.

Where it stands: `streams.shared_limiter` keeps the same arithmetic in Redis and falls back to `LocalLimiter` when Redis
does not answer. A key's number is its *theoretical arrival time* (tat): when its burst would be whole again.

      now                        tat                                       now + burst * interval
    --|--------------------------|------------------------------------------|-----> time
      |  used part of the burst  |  what is left: (.. - tat) / interval     |
      a request of cost c moves tat to the right by c * interval; one that would cross the right end is refused

In any t seconds at most `burst + per_s * t` passes. A refused request changes nothing, whatever else it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import SettingsError

if TYPE_CHECKING:
    from runtime.clock import Clock

MOST_PER_S = 1_000_000.0
# Sums of floats may end a hair beyond the burst, which must not cost its last request. A hundredth of one is far above
# what rounding adds up to and far below what anybody could use.
SLACK_COST = 0.01


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` a second on average (0 < per_s <= 1,000,000), `burst` (>= 1) at once."""

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if not 0 < self.per_s <= MOST_PER_S:
            raise SettingsError(f"rate: per_s must be above 0 and at most {MOST_PER_S:,.0f} (got {self.per_s})")
        if self.burst < 1:
            raise SettingsError(f"rate: burst must be at least 1 (got {self.burst})")

    def part(self, parts: int, cost: int) -> Rate:
        """One part in `parts` of it, with a burst that still lets `cost` through: without, it never would be."""
        return self if parts <= 1 else Rate(self.per_s / parts, max(cost, self.burst // parts))


def within(most: int, window_s: float, burst: int) -> Rate:
    """The rate that lets at most `most` through in any `window_s` seconds, `burst` (< most) of them at once.

    Raises:
        SettingsError: the burst leaves nothing for the window.
    """
    if not burst < most:
        raise SettingsError(f"rate: burst must be below {most}, the most in {window_s:g} s (got {burst})")
    return Rate((most - burst) / window_s, burst)


class Want(NamedTuple):
    """What is asked of one key. `name` may be any texts; no two lists of texts are the same key."""

    scope: str
    name: tuple[str, ...]
    rate: Rate


class Verdict(NamedTuple):
    """Whether a request passes; if not, which limit refused it and after how many seconds that one would not."""

    allowed: bool
    scope: str = ""
    name: str = ""
    retry_after_s: float = 0.0
    local: bool = True
    """Decided by this process alone."""


ALLOWED = Verdict(allowed=True)


def moved(tat_s: float, now_s: float, cost: int, rate: Rate) -> tuple[float, float]:
    """The key's next tat, and how long the request would have to wait for it: 0 when it passes."""
    interval_s = 1.0 / rate.per_s
    next_s = max(tat_s, now_s) + cost * interval_s
    wait_s = next_s - now_s - rate.burst * interval_s
    return next_s, wait_s if wait_s > SLACK_COST * interval_s else 0.0


def check_cost(wants: Sequence[Want], cost: int) -> None:
    """Raise ValueError for a cost that mints permits (below 1) or that a burst can never hold."""
    if cost < 1:
        raise ValueError(f"cost must be at least 1 (got {cost})")
    for want in wants:
        if cost > want.rate.burst:
            raise ValueError(
                f"cost must be at most {want.rate.burst}, the burst of {want.scope} (got {cost}): it would never pass"
            )


class LocalLimiter:
    """Limits of this process alone. Never waits; memory is bounded by `most_keys`."""

    def __init__(self, clock: Clock, most_keys: int = 100_000) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._tats: dict[tuple[str, tuple[str, ...]], float] = {}

    def __len__(self) -> int:
        """How many keys are kept."""
        return len(self._tats)

    def take(self, wants: Sequence[Want], cost: int = 1, *, parts: int = 1) -> Verdict:
        """Charge `cost` to every key, or to none; with `parts`, each limit is one part in so many.

        Raises:
            ValueError: the cost is below 1 or above a burst.
        """
        check_cost(wants, cost)
        now_s, tats = self._clock.monotonic_s(), self._tats
        charges: list[tuple[tuple[str, tuple[str, ...]], float]] = []
        refused, longest_s = None, 0.0
        for want in wants:
            key = (want.scope, want.name)
            next_s, wait_s = moved(tats.get(key, 0.0), now_s, cost, want.rate.part(parts, cost))
            charges.append((key, next_s))
            if wait_s > longest_s:
                refused, longest_s = want, wait_s
        if refused is not None:
            return Verdict(allowed=False, scope=refused.scope, name="/".join(refused.name), retry_after_s=longest_s)
        if not charges:
            return ALLOWED
        for key, next_s in charges:
            tats.pop(key, None)  # back in at the end: the first key is the one that was quiet for longest
            tats[key] = next_s
        self._forget(now_s)
        return ALLOWED

    def _forget(self, now_s: float) -> None:
        """Drop whole bursts, which say nothing, from the quiet end: two at most, so that nobody pays for the others."""
        for _ in range(2):
            first = next(iter(self._tats))
            if self._tats[first] > now_s:
                break
            del self._tats[first]
        while len(self._tats) > self._most_keys:
            del self._tats[next(iter(self._tats))]
