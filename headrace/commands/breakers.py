"""`headrace breakers`: what breakers do now, and an operator's word on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands.desk import who
from headrace.commands.reported import reported

if TYPE_CHECKING:
    from headrace.console import Console
    from streams.reliability_report import ReliabilityBoard

app = typer.Typer(
    help="Breakers of calls to dependencies: see them, and hold them open or closed.", no_args_is_help=True
)

LONGEST_MINUTES = 7 * 24 * 60.0

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Name = Annotated[str, typer.Argument(help="The dependency, such as adapter.")]
Wanted = Annotated[
    str, typer.Argument(help="forced_open (refuses all), disabled, or metrics_only (counts, never opens).")
]
Minutes = Annotated[
    float, typer.Option("--minutes", help="It ends by itself after these.", min=0.1, max=LONGEST_MINUTES)
]
Why = Annotated[str, typer.Option("--why", help="For those who find it.")]


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """Every breaker of every process, and what operators said of them."""
    raise typer.Exit(_with_board(lambda board: _list(board, as_json=as_json)))


@app.command("set")
def set_(name: Name, mode: Wanted, *, why: Why, minutes: Minutes = 60.0) -> None:
    """Hold a breaker in all processes; within a second or two, until it ends or is cleared."""
    raise typer.Exit(_with_board(lambda board: _set(board, name, mode, minutes, why)))


@app.command()
def clear(name: Name) -> None:
    """Leave a breaker to its settings again."""
    raise typer.Exit(_with_board(lambda board: _clear(board, name)))


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
    shown = await board.as_json()
    if as_json:
        typer.echo(json.dumps(shown))
    else:
        _print(shown)
    return 0


async def _set(board: ReliabilityBoard, name: str, mode: str, minutes: float, why: str) -> int:
    from control.breakers import check
    from reliability.breaker_machine import Mode

    check(name, mode, 60 * minutes, why)
    await board.say(name, Mode(mode), seconds=60 * minutes, by=who(), why=why)
    known = {each["name"] for state in await board.read() for each in state.get("breakers", ())}
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        _console().say(f"note: no process has a breaker {name!r} now; there are: {there}")
    return 0


async def _clear(board: ReliabilityBoard, name: str) -> int:
    await board.unsay(name)
    return 0


def _print(shown: dict[str, Any]) -> None:
    console, rows = _console(), []
    for state in shown["processes"]:
        for each in state.get("breakers", ()):
            silent = " (silent)" if state["stale"] else ""
            ratios = f"{each['failure_ratio']:.0%}", f"{each['slow_ratio']:.0%}"
            now = each["state"], f"{each['since_s']:,.0f}", *ratios, str(each["window_calls"])
            rows.append((each["name"], state["process"] + silent, *now))
    console.table(("breaker", "process", "state", "for s", "failed", "slow", "calls"), rows)
    for name, word in shown["operators"].items():
        console.say(f"{name}: {word['mode']} for {word['ends_in_s']:,} s, by {word['by']}: {word['why']}")


def _console() -> Console:
    """What others wrote into Redis is shown, and gives the terminal no orders."""
    from headrace.console import Console
    from runtime.clock import SystemClock

    return Console(SystemClock())
