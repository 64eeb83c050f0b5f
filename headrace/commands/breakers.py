"""`headrace breakers`: what breakers do now, and an operator's hand on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands.reported import reported

if TYPE_CHECKING:
    from streams.reliability_report import ReliabilityBoard

app = typer.Typer(
    help="Breakers of calls to dependencies: see them, and hold them open or closed.", no_args_is_help=True
)

MODES = ("auto", "forced_open", "disabled", "metrics_only")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Name = Annotated[str, typer.Argument(help="The dependency, such as adapter.")]
Wanted = Annotated[str, typer.Argument(help=f"{', '.join(MODES)}. auto: as its settings say.")]


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """Every breaker of every process, and the modes that operators set."""
    raise typer.Exit(_with_board(lambda board: _list(board, as_json=as_json)))


@app.command("set")
def set_(name: Name, mode: Wanted) -> None:
    """Set the mode of a breaker in all processes, within a second or two; it stays until it is set to auto."""
    raise typer.Exit(_with_board(lambda board: _set(board, name, mode)))


def _with_board(work: Callable[[ReliabilityBoard], Awaitable[int]]) -> int:
    from runtime.clock import SystemClock
    from runtime.settings import load
    from streams.redis_log import RedisLog
    from streams.reliability_report import ReliabilityBoard

    async def run() -> int:
        settings = load()
        redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-breakers")
        try:
            return await work(ReliabilityBoard(redis, settings.prefix, SystemClock()))
        finally:
            await redis.close()

    return reported(lambda: asyncio.run(run()))


async def _list(board: ReliabilityBoard, *, as_json: bool) -> int:
    states = await board.read()
    modes = {name: mode.value for name, mode in (await board.modes()).items()}
    if as_json:
        typer.echo(json.dumps({"processes": states, "modes": modes}))
        return 0
    _print(states, modes)
    return 0


async def _set(board: ReliabilityBoard, name: str, mode: str) -> int:
    from contracts.errors import SettingsError
    from reliability.breaker_machine import Mode

    if mode not in MODES:
        raise SettingsError(f"MODE: must be one of {', '.join(MODES)} (got {mode[:40]!r})")
    await board.set_mode(name, None if mode == "auto" else Mode(mode))
    known = {each["name"] for state in await board.read() for each in state["breakers"]}
    if name not in known:
        typer.echo(f"note: no process has a breaker {name!r} now; there are: {', '.join(sorted(known)) or 'none'}")
    return 0


def _print(states: list[dict[str, Any]], modes: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("breaker", "process", "state", "for s", "failed", "slow", "calls", "operator"):
        table.add_column(column)
    for state in states:
        for each in state["breakers"]:
            age = " (silent)" if state["stale"] else ""
            ratios = f"{each['failure_ratio']:.0%}", f"{each['slow_ratio']:.0%}"
            shown = each["state"], f"{each['since_s']:,.0f}", *ratios, str(each["window_calls"])
            table.add_row(each["name"], state["process"] + age, *shown, modes.get(each["name"], "-"))
    Console().print(table)
