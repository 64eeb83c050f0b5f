"""The three servers of a run, started together on loopback and stopped together.

They are direct children of this process (`Child.pid` is the server's own). Embedded servers come out of pip wheels and
are a convenience for one person on one machine; Apache Kafka, Debian's Redis and PostgreSQL are started the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from contracts.errors import ServerMissing
from headrace.servers import apache_kafka, postgres, probes, tansu, valkey
from headrace.servers.child import Child

Kind = Literal["postgres", "redis", "kafka"]
Source = Literal["embedded", "system"]
Starter = Callable[[Path, int], Awaitable[Child]]

PORT_ATTEMPTS = 3

STARTERS: dict[tuple[Kind, Source], Starter] = {
    ("postgres", "embedded"): postgres.start_embedded,
    ("postgres", "system"): postgres.start_system,
    ("redis", "embedded"): valkey.start_embedded,
    ("redis", "system"): valkey.start_system,
    ("kafka", "embedded"): tansu.start,
    ("kafka", "system"): apache_kafka.start,
}


@dataclass(frozen=True, slots=True)
class Ready:
    """Told to `on_ready` when a server answers."""

    kind: Kind
    server: str
    url: str
    took_s: float
    port: int
    wanted_port: int | None
    """The port asked for, when it was taken."""


@dataclass(slots=True)
class Servers:
    """Running servers; whoever started them calls `stop`."""

    children: dict[Kind, Child] = field(default_factory=dict)

    def url(self, kind: Kind) -> str:
        """postgresql://, redis:// or, for Kafka, host:port."""
        return self.children[kind].program.url

    @property
    def pids(self) -> dict[Kind, int]:
        """Process id by server."""
        return {kind: child.pid for kind, child in self.children.items()}

    def dead(self) -> list[Kind]:
        """Servers that ended by themselves."""
        return [kind for kind, child in self.children.items() if not child.running()]

    async def stop(self, deadline_s: float = 3.0) -> None:
        """Stop all at once; those still there after `deadline_s` are killed. Safe to repeat."""
        await asyncio.gather(*(child.stop(deadline_s) for child in self.children.values()))
        self.children.clear()


async def start(
    data_dir: Path,
    wanted: dict[Kind, Source],
    *,
    ports: dict[Kind, int] | None = None,
    on_ready: Callable[[Ready], None] | None = None,
) -> Servers:
    """Start the wanted servers at the same time, each in `data_dir/<kind>`, and wait until each answers.

    A port in `ports` is used when it is free, else any free one. On a failure, or when cancelled, whatever was started
    is stopped first.

    Raises:
        ServerMissing: names the server, why it did not start, and what to do.
    """
    servers = Servers()
    try:
        async with asyncio.TaskGroup() as group:
            for kind, source in wanted.items():
                port = (ports or {}).get(kind, 0)
                group.create_task(_start_one(servers, kind, source, data_dir / kind, port, on_ready))
    except BaseExceptionGroup as failures:
        await servers.stop()
        raise failures.exceptions[0] from None
    except BaseException:
        await servers.stop()
        raise
    return servers


async def _start_one(
    servers: Servers,
    kind: Kind,
    source: Source,
    data_dir: Path,
    wanted_port: int,
    on_ready: Callable[[Ready], None] | None,
) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    taken = wanted_port if wanted_port and probes.port_taken(wanted_port) else None
    for attempt in range(1, PORT_ATTEMPTS + 1):
        first_choice = wanted_port and taken is None and attempt == 1
        port = wanted_port if first_choice else probes.free_port()
        try:
            child = await STARTERS[kind, source](data_dir, port)
        except ServerMissing:
            # Somebody may have taken the free port in the moment before the server did.
            if attempt == PORT_ATTEMPTS or not probes.port_taken(port):
                raise
            taken = taken or wanted_port or None
            continue
        servers.children[kind] = child
        if on_ready is not None:
            name, url = child.program.server, child.program.url
            on_ready(Ready(kind, name, url, loop.time() - started_s, port, taken))
        return
