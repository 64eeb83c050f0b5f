"""Builds each process from its settings, once, and runs it until it is told to stop.

Clients, metrics and health are made here and handed down; no module keeps one of its own. The worker is built by
`headrace.worker`, because Faust's command line has to find it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from contracts.errors import HeadraceError
from headrace.guard import own_packages
from runtime.clock import Clock, SystemClock
from runtime.health import Health
from runtime.http import serve_probes
from runtime.logs import configure
from runtime.metrics import Metrics
from runtime.process import report, run_until_signalled
from runtime.settings import Settings, load

# What a process is: it runs until the event is set, and says of itself what the rest are for.
Process = Callable[[Settings, asyncio.Event, Metrics, Health, Clock], Awaitable[None]]


def relay() -> int:
    """Run the relay; returns the exit status."""
    from streams import relay as process  # noqa: PLC0415 - each process loads its own clients only

    return _run("relay", process.run, lambda settings: (settings.relay.host, settings.relay.port))


def mirror() -> int:
    """Run the mirror; returns the exit status."""
    from streams import mirror as process  # noqa: PLC0415 - the same

    return _run("mirror", process.run, lambda settings: (settings.mirror.host, settings.mirror.port))


def gateway() -> int:
    """Run the gateway, which serves its probes on its own port; returns the exit status."""
    from gateway import run as process  # noqa: PLC0415 - the same

    return _run("gateway", process.run, _no_probes)


def control() -> int:
    """Run the control process, which serves its probes on its own port; returns the exit status."""
    from control import run as process  # noqa: PLC0415 - the same

    return _run("control", process.run, _no_probes)


def migrate() -> int:
    """Bring the schema `headrace` up to date; returns the exit status."""
    from streams import migrate as process  # noqa: PLC0415 - the same

    async def main(settings: Settings, *_rest: object) -> None:
        await process.migrate(settings.postgres)

    return _run("migrate", main, _no_probes)


def _run(name: str, process: Process, probes: Callable[[Settings], tuple[str, int]]) -> int:
    try:
        own_packages()
        settings = load()
    except HeadraceError as error:
        return report(error)
    configure(settings.log, process=name)
    metrics, health = Metrics(), Health()

    async def main(stop: asyncio.Event) -> None:
        async with serve_probes(*probes(settings), health, metrics):
            await process(settings, stop, metrics, health, SystemClock())

    return run_until_signalled(main)


def _no_probes(_settings: Settings) -> tuple[str, int]:
    return "", 0
