"""The charts of a page: of one subject all its columns, of a few a line each, of many a small line in a list. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from tables.answers import Answer, charts_of, value_text
from tables.charts import MAX_LINES, Line, Point, chart, sparkline
from tables.fold import Column
from tables.rows import Subject
from tables.shares import Line as Row

SHOWN_SUBJECTS = 200
# What is wider than the window: reachable with the keyboard, so that it can be scrolled without a mouse.
SCROLLED = '<div class="scroll" tabindex="0" role="region" aria-label="{}">'


def figures(answer: Answer, subjects: Sequence[Subject]) -> str:
    """The charts of up to MAX_LINES subjects; nothing for more."""
    charts = charts_of(answer.query.kind.columns)
    if not charts or len(subjects) > MAX_LINES:
        return ""
    of = _by_subject(answer)
    drawn = []
    for number, (title, columns) in enumerate(charts.items()):
        if len(subjects) == 1:
            lines = [Line(column.name, _points(of[subjects[0]], column)) for column in columns[:MAX_LINES]]
        else:
            column = telling(columns)
            title = f"{title}: {column.name}"  # noqa: PLW2901 - the same chart of another kind
            lines = [Line(_name(subject), _points(of[subject], column)) for subject in subjects]
        drawn.append(_figure(f"c{number}", title, lines, answer.query.step_ms))
    return f'<section><h2>Over time</h2><div class="charts">{"".join(drawn)}</div></section>'


def overview(answer: Answer, link: Callable[[Subject], str]) -> str:
    """A line for each subject: its newest values, and how they came about."""
    charts = [(title, telling(columns)) for title, columns in charts_of(answer.query.kind.columns).items()]
    of = _by_subject(answer)
    head = "".join(f'<th scope="col" title="{escape(title)}">{escape(column.name)}</th>' for title, column in charts)
    lines = [
        f'<tr><th scope="row"><a href="{escape(link(subject))}">{escape(_name(subject))}</a></th>'
        + "".join(_small(of[subject], column, title) for title, column in charts)
        + f'<td class="num">{len(of[subject]):,}</td></tr>'
        for subject in sorted(of)[:SHOWN_SUBJECTS]
    ]
    what = " / ".join(answer.query.kind.parts)
    said = f"{len(of):,} in these rows" + (f", {SHOWN_SUBJECTS} of them listed" if len(of) > SHOWN_SUBJECTS else "")
    return (
        f"<section>{SCROLLED.format('Overview')}<table><caption>{escape(said)}</caption><thead><tr>"
        f'<th scope="col">{escape(what)}</th>{head}<th scope="col" class="num">rows</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def telling(columns: Sequence[Column]) -> Column:
    """The column that stands for a chart where there is room for one: the middle, of p50, p95 and p99 the p95."""
    return columns[(len(columns) - 1) // 2]


def _by_subject(answer: Answer) -> Mapping[Subject, list[tuple[int, Row]]]:
    of: dict[Subject, list[tuple[int, Row]]] = {}
    for (start_ms, subject), row in zip(answer.places, answer.lines, strict=True):
        of.setdefault(subject, []).append((start_ms, row))
    return of


def _points(rows: Sequence[tuple[int, Row]], column: Column) -> list[Point]:
    return [(start_ms, _number(row[column.name])) for start_ms, row in rows]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _small(rows: Sequence[tuple[int, Row]], column: Column, title: str) -> str:
    latest = value_text(rows[-1][1][column.name])
    return f"<td>{escape(latest)} {sparkline(_points(rows, column), title)}</td>"


def _figure(ident: str, title: str, lines: Sequence[Line], step_ms: int) -> str:
    keys = "".join(
        '<span class="key"><svg viewBox="0 0 22 8" aria-hidden="true">'
        f'<path class="line s{index}" d="M0,4L22,4"/></svg>{escape(line.name)}</span>'
        for index, line in enumerate(lines)
    )
    return (
        f"<figure><figcaption><span>{escape(title)}</span>{keys}</figcaption>"
        f"{chart(title, lines, step_ms=step_ms, ident=ident)}</figure>"
    )


def _name(subject: Subject) -> str:
    return " / ".join(subject) or "all"
