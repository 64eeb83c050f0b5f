"""This machine: open files, the gateway's port, the signing key."""

from __future__ import annotations

import resource
from collections.abc import Awaitable, Callable

from contracts.errors import SettingsError
from headrace.checks.finding import Notebook
from headrace.servers.probes import port_taken
from runtime.settings import Settings
from runtime.tokens import secret_of

# Beside the clients: Kafka, Redis, worker connections, log files, the interpreter's own.
OTHER_FILES = 256


async def examine(settings: Settings, notes: Notebook, is_ours: Callable[[str], Awaitable[bool]]) -> None:
    """Look at limits, port and key. `is_ours(url)` says whether a gateway of ours answers there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    judge_files(soft, hard, settings.gateway.connections, notes)
    await _port(settings, notes, is_ours)
    try:
        secret_of(settings.auth)
    except SettingsError as error:
        notes.fail("auth.secret", str(error), "python -c 'import secrets; print(secrets.token_hex(32))' makes one")
    else:
        notes.ok("auth.secret", "long enough")


def judge_files(soft: int, hard: int, connections: int, notes: Notebook) -> None:
    """Whether the gateway may open as many sockets as it accepts clients."""
    needed = connections + OTHER_FILES
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    if soft == resource.RLIM_INFINITY or soft >= needed:
        notes.ok("open files", f"limit {limit}")
        return
    can = hard == resource.RLIM_INFINITY or hard >= needed
    raising = (
        f"ulimit -n {needed}" if can else f"raise the hard limit ({hard:,}) to {needed:,} (LimitNOFILE=, limits.conf)"
    )
    notes.warn(
        "open files",
        f"limit {limit}, but gateway.connections allows {connections:,} clients",
        f"{raising}, or lower HEADRACE_GATEWAY__CONNECTIONS",
    )


async def _port(settings: Settings, notes: Notebook, is_ours: Callable[[str], Awaitable[bool]]) -> None:
    port = settings.gateway.port
    if not port_taken(port):
        notes.ok("gateway port", f"{port} is free")
    elif await is_ours(f"http://127.0.0.1:{port}/healthz"):
        notes.ok("gateway port", f"a gateway answers on {port}")
    else:
        notes.fail("gateway port", f"{port} is taken by another program", "stop it, or set HEADRACE_GATEWAY__PORT")
