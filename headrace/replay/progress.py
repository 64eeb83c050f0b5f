"""How far a long step is: a bar with the estimated rest on a terminal, a line now and then anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from runtime.clock import Clock

LINE_EVERY_S = 10.0


class Steps:
    """Shows steps on standard error, one after the other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self._rich.print(text, markup=False)

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Show a step of `total` units while the body runs; it calls what it is given with how many more are done."""
        with self._bar(title, total) if self._rich.is_terminal else self._lines(title, total, unit) as told:
            yield told

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=self._rich) as progress:
            task = progress.add_task(title, total=total)
            yield lambda count: progress.advance(task, count)

    @contextmanager
    def _lines(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        began_s = told_s = self._clock.monotonic_s()
        done = 0

        def told(count: int) -> None:
            nonlocal done, told_s
            done += count
            now_s = self._clock.monotonic_s()
            if now_s - told_s >= LINE_EVERY_S:
                told_s = now_s
                self._rich.print(f"{title}: {standing(done, total, now_s - began_s, unit)}")

        yield told
        took_s = self._clock.monotonic_s() - began_s
        self._rich.print(f"{title}: {done:,} {unit} in {took_s:.1f} s")


def standing(done: int, total: int, took_s: float, unit: str) -> str:
    """How far a step is, how fast, and how long it will take at that speed."""
    rate = done / took_s if took_s > 0 else 0.0
    rest = f"about {max(0, total - done) / rate:.0f} s left" if rate > 0 else "no estimate yet"
    return f"{done:,} of {total:,} {unit}, {rate:,.0f}/s, {rest}"
