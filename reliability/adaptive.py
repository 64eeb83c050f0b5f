"""How many pieces of work a gate lets run at once, found from how long they take. Pure.

Little's law: beyond what a dependency can do at once, more work in flight only waits there. So the width grows while
work takes about as long as it does unloaded (the baseline), and falls in proportion when it takes longer:

    gradient = tolerance * baseline / median, within [0.5, 1]
    width    = smoothed (width * gradient + room), room = sqrt(width) / 2: what lets it grow, and a queue to be seen

The baseline is what keeps this honest. Gradient2, which learns a long average of whatever it sees, takes a lasting
overload for normal after some minutes and then lets everything in. Here the baseline falls as soon as work is faster,
but rises only when the slowness cannot be ours: less than half of the width was in use. A gate that is always full
makes that test itself now and then, so that a dependency which became slower for good gets its width back:

    FREE --------- PRESSED_WINDOWS windows in a row with a gradient below 1 ---------> PROBING (half the width)
     ^ width as it was; baseline = what the last of PROBE_WINDOWS windows has shown ---------|

Half is enough: a width that has settled has less than one queued for each that is worked on.
"""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

# A median of fewer says little; of more, it says nothing new.
WINDOW_COUNT = 10
WINDOW_MOST = 500
WINDOW_S = 0.1
# Medians scatter: one low draw of ten must not become the measure of all.
BASELINE_FALL = 0.5
BASELINE_RISE = 0.1
# Work that was refused or timed out says "too much" without a duration; a tenth of it is no accident.
REFUSED_RATIO = 0.1
REFUSED_GRADIENT = 0.8
LEAST_GRADIENT = 0.5
PRESSED_WINDOWS = 50
# The first one still sees what was queued before.
PROBE_WINDOWS = 2


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
    pressed: int = 0
    """Windows in a row in which work took too long."""
    probing: int = 0
    """Windows left at half the width."""

    def whole(self, rules: Rules) -> int:
        """How many may run at once."""
        return max(rules.least, int(self.value / 2 if self.probing else self.value))


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

    def full(self, now_s: float) -> bool:
        """Whether it says enough; a quiet gate's window stays open for longer."""
        count = len(self.durations_s) + self.refused
        return count >= WINDOW_MOST or (count >= WINDOW_COUNT and now_s - self.began_s >= WINDOW_S)


def next_width(width: Width, window: Window, rules: Rules) -> Width:
    """The width after what a full window has shown."""
    if window.refused and window.refused >= REFUSED_RATIO * (len(window.durations_s) + window.refused):
        return _smoothed(width._replace(probing=0), width.value * REFUSED_GRADIENT, rules)
    seen_s = median(window.durations_s)
    if width.probing:
        return width._replace(probing=width.probing - 1, baseline_s=seen_s if width.probing == 1 else width.baseline_s)
    baseline_s = _baseline(width, seen_s, window.busiest)
    gradient = 1.0 if seen_s <= 0 else min(1.0, max(LEAST_GRADIENT, rules.tolerance * baseline_s / seen_s))
    if gradient >= 1.0 and window.busiest < width.value / 2:
        return Width(width.value, baseline_s)  # nobody asks for more, so nothing shows that more would do
    pressed = 0 if gradient >= 1.0 else width.pressed + 1
    probing = PROBE_WINDOWS if pressed >= PRESSED_WINDOWS else 0
    changed = Width(width.value, baseline_s, 0 if probing else pressed, probing)
    return _smoothed(changed, width.value * gradient + width.value**0.5 / 2, rules)


def _baseline(width: Width, seen_s: float, busiest: int) -> float:
    known_s = width.baseline_s
    if known_s is None:
        return seen_s
    if seen_s <= known_s:
        return known_s + BASELINE_FALL * (seen_s - known_s)
    return known_s + BASELINE_RISE * (seen_s - known_s) if busiest < width.value / 2 else known_s


def _smoothed(width: Width, target: float, rules: Rules) -> Width:
    value = width.value + rules.smoothing * (target - width.value)
    return width._replace(value=min(float(rules.most), max(float(rules.least), value)))
