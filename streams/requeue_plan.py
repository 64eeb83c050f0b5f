"""How fast letters of one requeue leave: a window that grows while they recover and shrinks while they die again. Pure.

Whoever requeues 50,000 letters believes that the cause is gone. The plan finds out with the first few, so that a
consumer that still fails is not flooded, and letters of which nothing is heard hold back the rest:

    window    how many may be on their way (sent, nothing heard yet). Starts at FIRST_WINDOW, grows by one for each
              letter that recovers (so it doubles each round), and halves when more died than recovered.
    hold      when letters die at a window of one, nothing leaves for a while: `backoff_s` doubled for each time in a
              row, at most `backoff_cap_s`. Each such time is a strike; a letter that recovers takes all of them back.
    giving up after MOST_STRIKES in a row; what has not left is put back.
    rate      a bucket: never more than `rate_per_s` on average, and a second's worth (at least one) at once.

What a plan knows is lost with its process; the next one starts over, slowly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from reliability.backoff import ceiling_s

FIRST_WINDOW = 16.0
MOST_WINDOW = 1000.0
MOST_STRIKES = 8


@dataclass(frozen=True)
class Outcomes:
    """Letters of one requeue, counted: not numbered yet, on their way, and what became of the others."""

    waiting: int
    under_way: int
    recovered: int
    died: int


@dataclass(frozen=True)
class Pace:
    """One requeue's state; times are monotonic seconds. `recovered` and `died` are what was seen before."""

    at_s: float
    credit: float
    window: float = FIRST_WINDOW
    strikes: int = 0
    hold_until_s: float = 0.0
    recovered: int = 0
    died: int = 0

    @property
    def gives_up(self) -> bool:
        """Whether the cause is evidently not gone."""
        return self.strikes >= MOST_STRIKES


def begun(now_s: float, rate_per_s: float, seen: Outcomes) -> Pace:
    """The pace of a requeue that is looked at for the first time."""
    return Pace(now_s, credit=_burst(rate_per_s), recovered=seen.recovered, died=seen.died)


def observed(
    pace: Pace, seen: Outcomes, now_s: float, *, rate_per_s: float, backoff_s: float, backoff_cap_s: float
) -> Pace:
    """The pace after a look at what became of its letters.

    Counts may shrink, when a letter is part of another requeue since: that is no news.
    """
    recovered, died = max(0, seen.recovered - pace.recovered), max(0, seen.died - pace.died)
    credit = min(_burst(rate_per_s), pace.credit + rate_per_s * max(0.0, now_s - pace.at_s))
    pace = replace(pace, at_s=now_s, credit=credit, recovered=seen.recovered, died=seen.died)
    if died > recovered:
        return _failing(pace, now_s, backoff_s, backoff_cap_s)
    if recovered:
        return replace(pace, window=min(MOST_WINDOW, pace.window + recovered), strikes=0, hold_until_s=0.0)
    return pace


def allowed(pace: Pace, seen: Outcomes, now_s: float) -> int:
    """How many more letters may leave now."""
    if pace.gives_up or now_s < pace.hold_until_s:
        return 0
    return max(0, min(seen.waiting, math.floor(pace.window) - seen.under_way, math.floor(pace.credit)))


def spent(pace: Pace, count: int) -> Pace:
    """The pace after `count` letters left."""
    return replace(pace, credit=pace.credit - count)


def _failing(pace: Pace, now_s: float, backoff_s: float, backoff_cap_s: float) -> Pace:
    if pace.window > 1.0:
        return replace(pace, window=max(1.0, pace.window / 2))
    hold_s = ceiling_s(pace.strikes, base_s=backoff_s, cap_s=backoff_cap_s)
    return replace(pace, strikes=pace.strikes + 1, hold_until_s=now_s + hold_s)


def _burst(rate_per_s: float) -> float:
    return max(1.0, rate_per_s)
