"""What the terminal gets to see."""

from __future__ import annotations

import pytest

from headrace.console import Console
from runtime.clock import SystemClock

ORDERS = "\x1b]0;title\x07\x9b2J\u202egnp"


def test_text_from_outside_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]):
    console = Console(SystemClock())
    console.table([f"tool{ORDERS}"], [[f"[red]search{ORDERS}"]])
    with console.replaced() as shown:
        shown(ORDERS, ["a"], [[ORDERS]])
    console.say(ORDERS)
    console.warn(ORDERS)
    console.fail(ORDERS)
    out = capsys.readouterr().out
    assert "[red]search" in out
    assert out.count("]0;title") == 7
    assert not set(out) & set("\x1b\x07\x9b\u202e")


def test_a_row_is_one_line_where_no_terminal_folds_it(capsys: pytest.CaptureFixture[str]):
    console, place, text = Console(SystemClock()), "headrace.orders/3/1234567", "the shop system does not answer " * 9
    console.table(["place", "tenant", "error"], [[place, "t" * 36, text]])
    with console.replaced() as shown:
        shown("12:00:00 UTC, no requeue runs", ["n"], [["7"]])
    _header, row, title, *_table = capsys.readouterr().out.splitlines()
    assert row.startswith(place)
    assert text.strip() in row
    assert title == "12:00:00 UTC, no requeue runs"
