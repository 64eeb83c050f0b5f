"""What a command that talks to PostgreSQL itself works with, and how it is carried out.

At the hour when `headrace dead-letters` or `headrace tenants` are needed, the control process may be what is down.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from headrace.console import Console
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.postgres import Connection


@dataclass(frozen=True)
class Desk:
    """What a command works with."""

    settings: Settings
    connection: Connection
    clock: Clock
    console: Console


def run(
    ask: Callable[[Desk], Awaitable[int]],
    *,
    name: str = "headrace dead-letters",
    first: Callable[[Settings, Clock], object] = lambda _settings, _clock: None,
) -> None:
    """Carry out a command on a connection of its own, which is called `name`, and end with its status.

    `first` refuses what was given before anything is asked of PostgreSQL, which may be what is down.
    """
    from headrace.commands.reported import reported

    def made() -> int:
        return asyncio.run(_connected(ask, name, first))

    raise typer.Exit(reported(made))


def who() -> str:
    """Whoever types the command, for the audit; by number in a container whose user has no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return f"{name}@{socket.gethostname()}"


async def _connected(
    ask: Callable[[Desk], Awaitable[int]], name: str, first: Callable[[Settings, Clock], object]
) -> int:
    from headrace.console import Console
    from runtime.clock import SystemClock
    from runtime.settings import load
    from streams import migrate, postgres

    settings, clock = load(), SystemClock()
    first(settings, clock)
    connection = await postgres.connect(settings.postgres, name=name)
    try:
        await migrate.check(connection, settings.postgres)
        with postgres.translated(settings.postgres):
            return await ask(Desk(settings, connection, clock, Console(clock)))
    finally:
        await postgres.close(connection)
