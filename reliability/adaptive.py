"""How many pieces of work a gate lets run at once, found from how long they take. Pure.

Little's law: beyond what a dependency can do at once, more work in flight only waits there. So the width grows while
work takes about as long as it does unloaded (the baseline), and falls in proportion when it takes longer:

    gradient = tolerance * baseline / median, within [0.5, 1.5]
    width    = smoothed (width * gradient + room), room = sqrt(width) / 2: a queue that is long enough to be seen

The baseline is what keeps this honest. Gradient2, which learns a long average of whatever it sees, takes a lasting
overload for normal after some minutes and then lets everything in; and the least of what was seen sinks with every
lucky draw. Here the baseline is learned only while the slowness cannot be ours: less than half of the width is in use.
A gate that is never so quiet makes that test itself now and then. So an overload that was there from the start does not
count as normal either, and a dependency that became slower for good gets its width back:

    OPEN --- 5, then 10, 20, at last 50 windows in a row with half of it or more in use ---------------> PROBING
     ^                                                                                            half of the width
     +-------- width as it was; baseline from what the last of PROBE_WINDOWS windows has shown ----------------+

Half is little enough: a width that has settled has less than one queued for each that is worked on. A probe of a few
tenths of a second in five seconds and more costs one or two percent of the work.
"""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

# A median of fewer says little (of ten that scatter exponentially it is off by a third); of more, nothing new.
WINDOW_COUNT = 20
PROBE_COUNT = 60
PROBE_S = 0.5
WINDOW_MOST = 500
WINDOW_S = 0.1
# The median of so many durations counts half against what is known, of many more nearly whole.
HALF_WEIGHT = 10
QUIET_WEIGHT = 0.1
# Work that was refused or timed out says "too much" without a duration; a fifth of it is no accident.
REFUSED_RATIO = 0.2
LEAST_GRADIENT = 0.5
# Above 1 it says how far away the limit is: 20 to 100 takes two seconds, where room alone would take half a minute.
MOST_GRADIENT = 1.5
PROBE_EVERY = 50
PROBE_FIRST = 5
# The first one still sees what was queued before.
PROBE_WINDOWS = 2
PROBE_RATIO = 1 / 2


class Rules(NamedTuple):
    """1 <= least <= most; tolerance >= 1; 0 < smoothing <= 1. See settings, group `gate`."""

    least: int
    most: int
    tolerance: float
    smoothing: float


class Width(NamedTuple):
    """The width as a fraction-carrying number, and the unloaded duration as learned so far; None: nothing measured."""

    value: float
    baseline_s: float | None = None
    probe_in: int = PROBE_FIRST
    """Windows until the next probe, if they are all busy."""
    probe_every: int = PROBE_FIRST
    """How many windows there were before the last probe; a first measure that was unlucky is corrected soon."""
    probing: int = 0
    """Windows left at a part of the width."""

    def whole(self, rules: Rules) -> int:
        """How many may run at once."""
        return max(rules.least, int(self.value * (PROBE_RATIO if self.probing else 1)))


class Window:
    """Durations of about a tenth of a second, and how busy the gate was meanwhile."""

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.durations_s: list[float] = []
        self.refused = 0
        self.busiest = 0

    def add(self, duration_s: float, running: int, *, refused: bool) -> None:
        """Note a piece of work that ended while `running` of them were in flight, itself included."""
        self.busiest = max(self.busiest, running)
        if refused:
            self.refused += 1
        else:
            self.durations_s.append(duration_s)

    def full(self, now_s: float, width: Width) -> bool:
        """Whether it says enough; a quiet gate's window stays open for longer."""
        count = len(self.durations_s) + self.refused
        open_s = now_s - self.began_s
        wanted = PROBE_COUNT if width.probing == 1 and open_s < PROBE_S else WINDOW_COUNT
        return count >= WINDOW_MOST or (count >= wanted and open_s >= WINDOW_S)


def next_width(width: Width, window: Window, rules: Rules) -> Width:
    """The width after what a full window has shown."""
    ratio = window.refused / (len(window.durations_s) + window.refused)
    if ratio >= REFUSED_RATIO or not window.durations_s:
        # At once, not smoothed; and what is known of unloaded work is measured again soon.
        due = _counted_down(width._replace(probe_in=min(width.probe_in, PROBE_FIRST)))
        return _bounded(due, width.value * (1 - ratio / 2), rules)
    seen_s = median(window.durations_s)
    if width.probing:
        return _probed(width, seen_s, len(window.durations_s))
    busy = window.busiest >= width.value / 2
    known_s = seen_s if width.baseline_s is None else width.baseline_s
    baseline_s = known_s if busy else known_s + QUIET_WEIGHT * (seen_s - known_s)
    fast = rules.tolerance * baseline_s / seen_s if seen_s > 0 else MOST_GRADIENT
    gradient = min(MOST_GRADIENT, max(LEAST_GRADIENT, fast))
    if gradient >= 1.0 and not busy:
        # Nobody asks for more, so nothing shows that it would do.
        return width._replace(baseline_s=baseline_s, probe_in=PROBE_EVERY)
    due = _counted_down(width._replace(baseline_s=baseline_s))
    return _smoothed(due, width.value * gradient + width.value**0.5 / 2, rules)


def _counted_down(width: Width) -> Width:
    """One busy window nearer to a probe, or in it."""
    if width.probing:
        return width
    if width.probe_in > 1:
        return width._replace(probe_in=width.probe_in - 1)
    every = min(PROBE_EVERY, 2 * width.probe_every)
    return width._replace(probe_in=every, probe_every=every, probing=PROBE_WINDOWS)


def _probed(width: Width, seen_s: float, count: int) -> Width:
    if width.probing > 1 or width.baseline_s is None:
        return width._replace(probing=width.probing - 1)
    weight = count / (count + HALF_WEIGHT)
    return width._replace(probing=0, baseline_s=width.baseline_s + weight * (seen_s - width.baseline_s))


def _smoothed(width: Width, target: float, rules: Rules) -> Width:
    return _bounded(width, width.value + rules.smoothing * (target - width.value), rules)


def _bounded(width: Width, value: float, rules: Rules) -> Width:
    return width._replace(value=min(float(rules.most), max(float(rules.least), value)))
