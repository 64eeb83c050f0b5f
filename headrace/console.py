"""What a person sees while a command runs: steps with elapsed time, then plain sentences. The only importer of rich.

On a terminal the running steps are live; anywhere else (a pipe, a log file, CI) each step is one plain line once it
is done. With `to_stderr` everything for people goes to standard error, so that standard output holds nothing but
the JSON object.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from rich import markup
from rich.console import Console as RichConsole
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from runtime.clock import Clock

# What a terminal obeys instead of showing it: control characters but tab and line break, and marks that turn text
# round. Names in tables come from outside.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

# In a pipe or a file a line is as long as it has to be: an id that is folded into two lines is found by no grep.
_LINE_CHARS = 10_000

# Shows a table: title, headers, rows.
Show = Callable[[str, Sequence[str], Sequence[Sequence[str]]], None]


class Step:
    """A running step; set `detail` to say in a few words what came of it."""

    detail = ""


class Console:
    """Use as a context around the steps; sentences may be printed inside and after."""

    def __init__(self, clock: Clock, *, to_stderr: bool = False) -> None:
        self._clock = clock
        # Soft wrap: an address or a path that is cut into two lines can no longer be clicked or copied.
        self._rich = RichConsole(stderr=to_stderr, highlight=False, soft_wrap=True)
        if not self._rich.is_terminal:
            self._rich.width = _LINE_CHARS
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._rich,
            transient=True,
            disable=not self._rich.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while the body runs, and then one line with its detail and how long it took."""
        started_s = self._clock.monotonic_s()
        task = self._progress.add_task(escape(title), total=None)
        step = Step()
        try:
            yield step
        except BaseException:
            self._line("[red]failed[/]", title, step.detail, started_s)
            raise
        else:
            self._line("[green]ok[/]", title, step.detail, started_s)
        finally:
            self._progress.remove_task(task)

    def _line(self, mark: str, title: str, detail: str, started_s: float) -> None:
        took_s = self._clock.monotonic_s() - started_s
        rest = f": {escape(detail)}" if detail else ""
        self._rich.print(f"  {mark} {escape(title)}{rest} [dim]({took_s:.1f} s)[/]")

    def say(self, text: str = "", *, strong: bool = False) -> None:
        """One line of plain text."""
        self._rich.print(escape(text), style="bold" if strong else None)

    def warn(self, text: str) -> None:
        """One line that asks for attention."""
        self._rich.print(f"[yellow]{escape(text)}[/]")

    def fail(self, text: str) -> None:
        """What went wrong and what to do, one line."""
        self._rich.print(f"[red]headrace: {escape(text)}[/]")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns."""
        self._rich.print(_grid("", headers, rows), soft_wrap=False)

    @contextmanager
    def replaced(self) -> Iterator[Show]:
        """A table that stays in its place on a terminal when it is shown anew; elsewhere they follow each other."""
        if not self._rich.is_terminal:
            yield self._followed
            return
        with Live(console=self._rich, auto_refresh=False, vertical_overflow="crop") as live:
            yield lambda title, headers, rows: live.update(_grid(title, headers, rows), refresh=True)

    def _followed(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        if title:
            self.say(title)  # of a table it would be folded to its width
        self.table(headers, rows)


def escape(text: str) -> str:
    """Text as it is to be seen: neither a terminal nor rich takes anything in it for an order."""
    return markup.escape(_OBEYED.sub("\N{REPLACEMENT CHARACTER}", text))


def _grid(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, title=escape(title) or None, title_justify="left", title_style="bold")
    for header in headers:
        table.add_column(escape(header), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object on standard output, as one line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
