"""Line charts as SVG, drawn here: readable without scripts, by screen readers, and in light and dark. Pure.

Colours are classes (`s0`, `s1`, ...), which the page's style sheet gives; each line also has its own dash pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from contracts.times import moment_of
from tables.answers import number_text

WIDTH, HEIGHT = 720, 210
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 26
Y_TICKS, X_TICKS = 4, 6
SPARK_WIDTH, SPARK_HEIGHT = 120, 24
# Points are drawn with the value to read while there are few enough to hit one.
MAX_POINTS = 240
MAX_LINES = 6

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_X_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)

# Milliseconds since the epoch, and the value or None.
Point = tuple[int, "float | None"]


@dataclass(frozen=True)
class Line:
    """One line of a chart, its points in order of time."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class _Scale:
    from_ms: int
    to_ms: int
    low: float
    high: float

    def x(self, at_ms: int) -> float:
        span = max(1, self.to_ms - self.from_ms)
        return round(LEFT + (at_ms - self.from_ms) / span * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return round(HEIGHT - BOTTOM - (value - self.low) / span * (HEIGHT - TOP - BOTTOM), 1)


def chart(title: str, lines: Sequence[Line], *, step_ms: int, ident: str) -> str:
    """A chart of up to MAX_LINES lines; a line breaks where a window is missing.

    `ident` is unique in the page. The description says each line's range, so that nobody needs to see it.
    """
    lines = lines[:MAX_LINES]
    values = [value for line in lines for _, value in line.points if value is not None]
    times = [at for line in lines for at, _ in line.points]
    if not values:
        return '<p class="empty">No values in this time.</p>'
    ticks = y_ticks(min(values), max(values))
    scale = _Scale(min(times), max(times), ticks[0], ticks[-1])
    body = "".join(_grid(scale, ticks)) + "".join(_line(scale, i, line, step_ms) for i, line in enumerate(lines))
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{ident}-t {ident}-d">'
        f'<title id="{ident}-t">{escape(title)}</title><desc id="{ident}-d">{escape(described(lines))}</desc>'
        f"{body}</svg>"
    )


def sparkline(points: Sequence[Point], title: str) -> str:
    """A small line without axes, as high as its own range from 0; empty when there are fewer than two values."""
    values = [(at, value) for at, value in points if value is not None]
    if len(values) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    low, high = min(0.0, *(v for _, v in values)), max(v for _, v in values)
    first_ms, span_ms = values[0][0], max(1, values[-1][0] - values[0][0])
    span = (high - low) or 1.0
    path = " ".join(
        f"{(at - first_ms) / span_ms * SPARK_WIDTH:.1f},{SPARK_HEIGHT - 2 - (v - low) / span * (SPARK_HEIGHT - 4):.1f}"
        for at, v in values
    )
    told = f"{title}: {number_text(values[-1][1])} now, up to {number_text(high)}"
    return (
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" role="img" aria-label="{escape(told)}">'
        f'<polyline class="s0" points="{path}"/></svg>'
    )


def described(lines: Sequence[Line]) -> str:
    """The chart in words."""
    texts = []
    for line in lines:
        values = [value for _, value in line.points if value is not None]
        if values:
            low, high, last = map(number_text, (min(values), max(values), values[-1]))
            texts.append(f"{line.name}: from {low} to {high}, last {last}")
    return "; ".join(texts)


def y_ticks(low: float, high: float) -> list[float]:
    """Round numbers that hold [low, high]; from 0 unless the values go below or are far away from it."""
    if low > 0 and high - low > 0.1 * high:
        low = 0.0
    if high == low:
        low, high = min(low, 0.0), max(high, 0.0) or 1.0
    rough = (high - low) / Y_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
    first = math.floor(low / step)
    last = math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def x_ticks(from_ms: int, to_ms: int) -> list[int]:
    """Round times between two."""
    span_s = max(1, (to_ms - from_ms) // 1000)
    step_s = next((step for step in _X_STEPS_S if span_s / step <= X_TICKS), math.ceil(span_s / X_TICKS))
    step_ms = step_s * 1000
    return list(range(-(-from_ms // step_ms) * step_ms, to_ms + 1, step_ms))


def _grid(scale: _Scale, ticks: Sequence[float]) -> list[str]:
    out = []
    for tick in ticks:
        y = scale.y(tick)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        out.append(f'<text class="axis" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{number_text(tick)}</text>')
    times = x_ticks(scale.from_ms, scale.to_ms)
    say = _clock(times)
    out += [
        f'<text class="axis" x="{scale.x(at)}" y="{HEIGHT - 7}" text-anchor="middle">{say(at)}</text>'
        for at in times
        if LEFT <= scale.x(at) <= WIDTH - RIGHT - 14
    ]
    return out


def _clock(times: Sequence[int]) -> Callable[[int], str]:
    days = len(times) > 1 and times[-1] - times[0] > 2 * 86_400_000
    seconds = any(at % 60_000 for at in times)
    form = "%d %b" if days else ("%H:%M:%S" if seconds else "%H:%M")
    return lambda at: moment_of(at).strftime(form)


def _line(scale: _Scale, index: int, line: Line, step_ms: int) -> str:
    known = [(at, value) for at, value in line.points if value is not None]
    if not known:
        return ""
    path, before_ms = [], None
    for at, value in known:
        joined = before_ms is not None and at - before_ms <= step_ms
        path.append(f"{'L' if joined else 'M'}{scale.x(at)},{scale.y(value)}")
        before_ms = at
    drawn = f'<path class="line s{index}" d="{"".join(path)}"/>'
    if len(known) > MAX_POINTS:
        return drawn + _lonely(scale, index, known, step_ms)
    return drawn + "".join(
        f'<circle class="point s{index}" cx="{scale.x(at)}" cy="{scale.y(value)}" r="2">'
        f"<title>{escape(line.name)} {number_text(value)} at {moment_of(at):%H:%M:%S}</title></circle>"
        for at, value in known
    )


def _lonely(scale: _Scale, index: int, known: Sequence[tuple[int, float]], step_ms: int) -> str:
    """Dots for values without neighbours, of which a line shows nothing."""
    gaps = [True, *(b - a > step_ms for (a, _), (b, _) in pairwise(known)), True]
    return "".join(
        f'<circle class="point s{index}" cx="{scale.x(at)}" cy="{scale.y(value)}" r="1.5"/>'
        for (at, value), before, after in zip(known, gaps[:-1], gaps[1:], strict=True)
        if before and after
    )
