"""`headrace degradation`: which level is in force and why, and an operator's override of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.desk import who
from headrace.commands.reported import reported

if TYPE_CHECKING:
    from streams.degradation import DegradationBoard, Heard

app = typer.Typer(
    help="What is turned off under overload, why, and an operator's word on it: docs/load.md.",
    no_args_is_help=True,
)

LONGEST_MINUTES = 7 * 24 * 60.0

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Wanted = Annotated[
    int, typer.Argument(help="0 normal, 1 no background, 2 stale, 3 essential, 4 read-only.", min=0, max=4)
]
Minutes = Annotated[
    float, typer.Option("--minutes", help="It ends by itself after these.", min=0.1, max=LONGEST_MINUTES)
]
Why = Annotated[str, typer.Option("--why", help="For those who find it.")]


@app.command()
def show(*, as_json: AsJson = False) -> None:
    """The level in force, what it turns off, and what each process measures."""
    raise typer.Exit(_with_board(lambda board: _show(board, as_json=as_json)))


@app.command("set")
def set_(level: Wanted, *, why: Why, minutes: Minutes = 60.0) -> None:
    """Let a level hold in all processes, whatever they measure; within a second, until it ends or is cleared."""
    raise typer.Exit(_with_board(lambda board: _set(board, level, minutes, why)))


@app.command()
def clear() -> None:
    """End the override: what is measured holds again."""
    raise typer.Exit(_with_board(_clear))


def _with_board(work: Callable[[DegradationBoard], Awaitable[int]]) -> int:
    from runtime.settings import load
    from streams.degradation import DegradationBoard
    from streams.redis_log import RedisLog

    async def run() -> int:
        settings = load()
        redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-degradation")
        try:
            return await work(DegradationBoard(redis, settings.prefix, settings.ladder))
        finally:
            await redis.close()

    return reported(lambda: asyncio.run(run()))


async def _show(board: DegradationBoard, *, as_json: bool) -> int:
    heard = await board.exchange()
    if as_json:
        typer.echo(json.dumps(heard.as_json()))
    else:
        _print(heard)
    return 0


async def _set(board: DegradationBoard, level: int, minutes: float, why: str) -> int:
    from control.degradation import check
    from reliability.ladder import Level

    check(level, 60 * minutes, why)
    await board.override(Level(level), seconds=60 * minutes, by=who(), reason=why)
    _print(await board.exchange())
    return 0


async def _clear(board: DegradationBoard) -> int:
    if not await board.clear():
        typer.echo("there was no override")
    _print(await board.exchange())
    return 0


def _print(heard: Heard) -> None:
    from contracts.times import moment_of
    from headrace.console import Console
    from reliability.ladder import Feature, allowed
    from runtime.clock import SystemClock

    # What others wrote into Redis is shown, and gives the terminal no orders.
    console = Console(SystemClock())
    level, override = heard.level, heard.override
    off = [feature.value for feature in Feature if not allowed(feature, level)]
    console.say(f"level {level:d}, {level.name.lower()}; off: {', '.join(off) or 'nothing'}")
    if override is not None:
        until = moment_of(int(1000 * override.until_s)).isoformat(timespec="seconds")
        console.say(f"set by {override.by} until {until}: {override.reason}")
    for name, said in sorted(heard.processes.items()):
        console.say(f"{name}: level {said.get('level')}; {_signals(said.get('signals'))}")


def _signals(signals: object) -> str:
    found = signals.items() if isinstance(signals, dict) else ()
    return ", ".join(f"{name} {one.get('value')} of {one.get('limit')}" for name, one in found if isinstance(one, dict))
