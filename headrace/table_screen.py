"""Tables as lines of a terminal: what stands in each cell, and sparklines. Pure; `headrace.console` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tables.answers import value_text

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 32
TIME_CHARS = len("2026-01-31T12:00:00")

Row = Mapping[str, Any]


class Screen(NamedTuple):
    """A table to be shown."""

    title: str
    headers: list[str]
    rows: list[list[str]]


def sparkline(values: Sequence[float | None], width: int = SPARK_WIDTH) -> str:
    """Values as blocks from 0 (or the lowest below it) to the highest; of more than `width` the highest of each group.

    A blank stands for no value.
    """
    groups = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
    if len(values) <= width:
        groups = [[value] for value in values]
    tops = [max((v for v in group if v is not None), default=None) for group in groups]
    known = [top for top in tops if top is not None]
    if not known:
        return ""
    low = min(0.0, *known)
    span = (max(known) - low) or 1.0
    return "".join(" " if top is None else BLOCKS[round((top - low) / span * (len(BLOCKS) - 1))] for top in tops)


def index(tables: Sequence[Row]) -> Screen:
    """All tables of a worker."""
    rows = [
        [
            table["name"],
            table["describe"],
            ", ".join(table["parts"]) or "-",
            table["window"] or "-",
            f"{len(table['partitions'])}/{table['partitions_of']}",
            _state(table),
        ]
        for table in tables
    ]
    return Screen("", ["table", "what it says", "key", "window", "partitions here", "state"], rows)


def rows(table: Row, answer: Row) -> Screen:
    """An answer: of one subject its columns, of several a line for each with their charted columns."""
    parts: list[str] = table["parts"]
    by_subject: dict[tuple[str, ...], list[Row]] = {}
    for row in answer["rows"]:
        by_subject.setdefault(tuple(row[part] for part in parts), []).append(row)
    title = _title(table, answer)
    if len(by_subject) == 1 and table["window"]:
        subject, of = next(iter(by_subject.items()))
        return _one(f"{title}: {' / '.join(filter(None, subject)) or 'all'}", table, of)
    charted = [column["name"] for column in table["columns"] if column["chart"] or not table["window"]]
    headers = [*parts, *charted]
    lines = [[*subject, *(value_text(of[-1][name]) for name in charted)] for subject, of in sorted(by_subject.items())]
    if table["window"] and charted:
        tell = _telling(table)
        headers.append(tell)
        lines = [
            [*line, sparkline(_values(of, tell))]
            for line, (_, of) in zip(lines, sorted(by_subject.items()), strict=True)
        ]
    return Screen(title, headers, lines)


def compared(answer: Row) -> Screen | None:
    """What the answer says of its rows together; None when it does not."""
    lines: list[Row] = answer.get("compare") or []
    if not lines:
        return None
    # Most of them are empty for most kinds of metrics.
    names = [name for name in lines[0] if any(line[name] is not None for line in lines)]
    return Screen("compared with the control arm", names, [[value_text(line[n]) for n in names] for line in lines])


def warning(answer: Row) -> str:
    """What the answer lacks, "" when it is whole."""
    missing = [f"partition {gone['partition']}: {gone['why']}" for gone in answer["missing"]]
    return f"Rows may be missing. {'; '.join(missing)}" if missing else ""


def _one(title: str, table: Row, of: Sequence[Row]) -> Screen:
    lines = []
    for column in table["columns"]:
        name = column["name"]
        values = _values(of, name)
        known = [value for value in values if value is not None]
        low, high = (value_text(min(known)), value_text(max(known))) if known else ("", "")
        lines.append([name, value_text(of[-1][name]), low, high, sparkline(values) if column["chart"] else ""])
    return Screen(title, ["column", "last", "lowest", "highest", ""], lines)


def _title(table: Row, answer: Row) -> str:
    count = f"{len(answer['rows']):,} rows{' and more' if answer['next'] else ''}"
    if not table["window"]:
        return f"{table['name']}, {count}"
    size = answer["size"] + (f" every {answer['step']}" if answer["step"] != answer["size"] else "")
    times = f"{answer['from'][:TIME_CHARS]} to {answer['to'][:TIME_CHARS]} UTC"
    return f"{table['name']}, windows of {size}, {times}, {count}"


def _telling(table: Row) -> str:
    """Of the chart with the most lines the middle one: of p50, p95 and p99 the p95."""
    charts: dict[str, list[str]] = {}
    for column in table["columns"]:
        if column["chart"]:
            charts.setdefault(column["chart"], []).append(column["name"])
    names = max(charts.values(), key=len)
    return names[(len(names) - 1) // 2]


def _values(of: Sequence[Row], name: str) -> list[float | None]:
    return [float(row[name]) if isinstance(row[name], int | float) else None for row in of]


def _state(table: Row) -> str:
    if table["state"] != "restoring":
        return str(table["state"])
    return f"restoring, {table['rows_to_replay']:,} records left"
