"""How every process runs and stops: a signal sets an event, the work finishes its batch, then the process ends.

Exit status: 0 stopped as asked, 2 bad settings or options, 3 a server is missing, 1 anything else.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

from contracts.errors import HeadraceError, QueryError, ServerMissing, SettingsError

EXIT_SETTINGS = 2
EXIT_SERVER_MISSING = 3


def run_until_signalled(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run `main(stop)` to its end and return the exit status; SIGTERM and SIGINT set `stop`.

    A second signal does not hurry it: `main` bounds its own waits.
    """
    try:
        asyncio.run(_with_signals(main))
    except HeadraceError as error:
        return report(error)
    return 0


def report(error: HeadraceError) -> int:
    """One clear line on standard error, and the exit status that goes with it."""
    # The real one: Faust puts a logger in the place of sys.stderr.
    print(f"headrace: {error}", file=sys.__stderr__, flush=True)
    if isinstance(error, SettingsError | QueryError):
        return EXIT_SETTINGS
    return EXIT_SERVER_MISSING if isinstance(error, ServerMissing) else 1


async def _with_signals(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)
