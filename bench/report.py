"""The printed table: figures, and ratios to the named contenders of the same run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from bench.lineup import HEADRACE, LINEUP, PEERS
from bench.result import Result

OURS = HEADRACE + "rocksdb"
LIMIT, STOCK = "aiokafka-read", "faust-table"


def as_json(results: Sequence[Mapping[str, object]]) -> str:
    """One object, and nothing else."""
    return json.dumps({"results": list(results)})


def print_lines(title: str, lines: Sequence[Mapping[str, object]], notes: Sequence[str]) -> None:
    """A table of what the lines hold, for people, on standard error."""
    table = Table(title=title, title_justify="left", caption="\n".join(notes), caption_justify="left")
    for name in lines[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "name" else "right")
    for line in lines:
        table.add_row(*(_text(value) for value in line.values()))
    _console().print(table)


def print_table(title: str, results: Sequence[Result], notes: Sequence[str]) -> None:
    """For people, on standard error: standard output belongs to programs."""
    console = _console()
    table = Table(title=title, title_justify="left", caption="\n".join(notes), caption_justify="left")
    for column in ("contender", "survives a crash"):
        table.add_column(column)
    for column in ("events", "s", "events/s", "steady", "CPU us/event", "peak MiB", "x faust-table", "% of reading"):
        table.add_column(column, justify="right")
    table.add_column("answer")
    durable = {contender.name: contender.durable for contender in LINEUP}
    rates = {result.name: result.events_per_s for result in results}
    for result in results:
        table.add_row(
            result.name,
            durable[result.name],
            f"{result.events:,}",
            f"{result.seconds:.1f}",
            f"{result.events_per_s:,.0f}",
            f"{result.steady_events_per_s:,.0f}" if result.steady_events_per_s else "-",
            f"{result.cpu_us_per_event:.2f}",
            f"{result.peak_rss_mib:.0f}",
            _ratio(rates, result.name, STOCK, "{:.1f}", 1),
            _ratio(rates, result.name, LIMIT, "{:.0f}", 100),
            "right" if result.answer_ok else "WRONG",
        )
    console.print(table)
    for line in comparisons(results):
        console.print(line)


def comparisons(results: Sequence[Result]) -> list[str]:
    """The ratios that matter, where both sides were measured and right."""
    right = {result.name: result for result in results if result.answer_ok and result.events_per_s}
    if OURS not in right:
        return []
    ours = right[OURS]
    lines = [
        f"{OURS} / {name}: {ours.events_per_s / right[name].events_per_s:.2f}"
        for name in (STOCK, LIMIT, HEADRACE + "memory")
        if name in right
    ]
    peers = [right[name] for name in PEERS if name in right]
    if peers:
        best = max(peers, key=lambda result: result.events_per_s)
        lines.append(
            f"{OURS} / best peer ({best.name}): {ours.events_per_s / best.events_per_s:.2f}, "
            f"CPU {ours.cpu_us_per_event / best.cpu_us_per_event:.2f}"
        )
    return lines


def _console() -> Console:
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else 150)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "right" if value else "WRONG"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _ratio(rates: dict[str, float], name: str, base: str, form: str, scale: float) -> str:
    return form.format(scale * rates[name] / rates[base]) if rates.get(base) and rates[name] else "-"
