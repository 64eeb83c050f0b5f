from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from tables.charts import MAX_POINTS, Line, chart, described, sparkline, x_ticks, y_ticks
from tests.support.tables import T0

STEP_MS = 10_000


def line(*values: float | None, name: str = "p95_ms") -> Line:
    return Line(name, [(T0 + n * STEP_MS, value) for n, value in enumerate(values)])


def drawn(*lines: Line) -> ET.Element:
    return ET.fromstring(chart("latency <ms>", lines, step_ms=STEP_MS, ident="c0"))  # noqa: S314 - our own text


def paths(svg: ET.Element) -> list[str]:
    return [path.attrib["d"] for path in svg.iter("path")]


def test_a_chart_says_in_words_what_it_shows():
    svg = drawn(line(1.0, 3.0, 2.0))
    assert svg.attrib["aria-labelledby"] == "c0-t c0-d"
    assert [svg.findtext("title"), svg.findtext("desc")] == ["latency <ms>", "p95_ms: from 1 to 3, last 2"]
    assert described([line(None)]) == ""


@pytest.mark.parametrize(
    ("values", "moves", "draws"),
    [((1, 2, 3), 1, 2), ((1, None, 3), 2, 0), ((1, 2, None, 4, 5), 2, 2), ((None, 7), 1, 0)],
)
def test_a_line_breaks_where_a_window_is_missing(values: tuple[float | None, ...], moves: int, draws: int):
    (path,) = paths(drawn(line(*values)))
    assert (path.count("M"), path.count("L")) == (moves, draws)


def test_everything_is_inside_the_picture():
    svg = drawn(line(*[1e-9, 5.0, 1e12]), line(-3.0, 0.0, 7.0, name="b"))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for path in paths(svg):
        for x, y in re.findall(r"[ML]([\d.]+),([\d.]+)", path):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


def test_a_value_without_neighbours_is_a_dot_also_where_others_have_none():
    many = drawn(line(*[1.0] * MAX_POINTS, None, 5.0, None, 6.0))
    assert len(list(many.iter("circle"))) == 2
    few = drawn(line(1.0, None, 5.0))
    assert [circle.findtext("title") for circle in few.iter("circle")] == [
        "p95_ms 1 at 00:00:00",
        "p95_ms 5 at 00:00:20",
    ]


def test_without_values_it_says_so():
    assert "No values" in chart("x", [line(None, None)], step_ms=STEP_MS, ident="c0")
    assert sparkline([(T0, 1.0)], "x") == ""


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 80, [0, 20, 40, 60, 80]),
        (3, 97, [0, 25, 50, 75, 100]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
        (-10, 10, [-10, -5, 0, 5, 10]),
        (4.0, 4.2, [4, 4.05, 4.1, 4.15, 4.2]),
        (7, 7, [0, 2, 4, 6, 8]),
    ],
)
def test_the_scale_has_round_numbers_around_the_values(low: float, high: float, ticks: list[float]):
    assert y_ticks(low, high) == pytest.approx(ticks)


def test_times_are_marked_at_round_ones():
    assert x_ticks(T0 + 1, T0 + 900_000) == [T0 + n * 300_000 for n in range(1, 4)]
    assert x_ticks(T0, T0) == [T0]


def test_ids_from_outside_cannot_leave_their_place():
    nasty = '"><script>x</script>'
    text = chart(nasty, [line(1.0, 2.0, name=nasty)], step_ms=STEP_MS, ident="c0") + sparkline(
        [(0, 1.0), (1, 2.0)], nasty
    )
    assert "<script" not in text
