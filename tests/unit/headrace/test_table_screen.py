from __future__ import annotations

from typing import Any

import pytest

from headrace import table_screen

TABLE: dict[str, Any] = {
    "name": "tool_latency",
    "describe": "Latency of tools.",
    "parts": ["tool", "version"],
    "window": "10s",
    "columns": [
        {"name": "count", "chart": "calls"},
        {"name": "by_class", "chart": ""},
        {"name": "p50_ms", "chart": "latency"},
        {"name": "p95_ms", "chart": "latency"},
        {"name": "p99_ms", "chart": "latency"},
    ],
    "partitions": [1, 3],
    "partitions_of": 4,
    "state": "restoring",
    "rows_replayed": 10,
    "rows_to_replay": 2000,
}


def row(tool: str, count: int, p95: float | None = 1.0) -> dict[str, Any]:
    latencies = {"p50_ms": 0.5, "p95_ms": p95, "p99_ms": 2.0}
    return {"tool": tool, "version": "", "count": count, "by_class": {"timeout": 2}, **latencies}


def answer(*rows: dict[str, Any], **more: object) -> dict[str, Any]:
    times = {"from": "2026-01-31T12:00:00.000Z", "to": "2026-01-31T12:15:00.000Z", "size": "1m", "step": "1m"}
    return {"rows": list(rows), "next": None, "missing": [], **times, **more}


@pytest.mark.parametrize(
    ("values", "width", "text"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([5, None, 10], 8, "▅ █"),
        ([0, 9, 0, 0, 0, 0], 3, "█▁▁"),
        ([-7, 0], 8, "▁█"),
        ([3, 3], 8, "██"),
        ([0, 0], 8, "▁▁"),
        ([None], 8, ""),
        ([], 8, ""),
    ],
)
def test_a_sparkline_shows_the_highest_of_each_group(values: list[float | None], width: int, text: str):
    assert table_screen.sparkline(values, width) == text


def test_of_several_subjects_each_has_a_line_with_its_newest_values():
    screen = table_screen.rows(TABLE, answer(row("b", 1), row("a", 1, 1.0), row("a", 3, 8.0)))
    assert screen.headers == ["tool", "version", "count", "p50_ms", "p95_ms", "p99_ms", "p95_ms"]
    assert screen.rows == [["a", "", "3", "0.500", "8", "2", "▂█"], ["b", "", "1", "0.500", "1", "2", "█"]]
    assert screen.title.startswith(
        "tool_latency, windows of 1m, 2026-01-31T12:00:00 to 2026-01-31T12:15:00 UTC, 3 rows"
    )


def test_of_one_subject_each_column_has_a_line_with_its_range():
    screen = table_screen.rows(TABLE, answer(row("a", 1, 1.0), row("a", 3, 8.0), row("a", 2, None)))
    assert screen.headers == ["column", "last", "lowest", "highest", ""]
    assert screen.rows[0] == ["count", "2", "1", "3", "▃█▆"]
    assert screen.rows[1] == ["by_class", "timeout 2", "", "", ""]
    assert screen.rows[3] == ["p95_ms", "-", "1", "8", "▂█ "]


def test_a_table_without_windows_shows_all_columns_and_no_times():
    screen = table_screen.rows(TABLE | {"window": None}, {"rows": [row("a", 1)], "next": "x", "missing": []})
    assert screen.title == "tool_latency, 1 rows and more"
    assert screen.headers == ["tool", "version", "count", "by_class", "p50_ms", "p95_ms", "p99_ms"]


def test_what_is_missing_is_said():
    gone = {"partition": 3, "why": "no worker has it yet"}
    assert table_screen.warning(answer(missing=[gone])) == "Rows may be missing. partition 3: no worker has it yet"
    assert table_screen.warning(answer()) == ""


def test_the_index_says_how_far_a_restore_is():
    (line,) = table_screen.index([TABLE]).rows
    assert line == [
        "tool_latency",
        "Latency of tools.",
        "tool, version",
        "10s",
        "2/4",
        "restoring, 2,000 records left",
    ]
