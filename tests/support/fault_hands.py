"""The hands of the fault suite: they do to processes and servers what the plan says, at its times."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from headrace.devkit.supervisor import Child, Supervisor
from headrace.servers.probes import free_port
from runtime.settings import Settings
from streams.redis_log import RedisLog
from tests.support.fault_plan import Fault, Kind
from tests.support.fault_servers import REWIND_S, Server
from tests.support.proxy import Toxics

SLOW = Toxics(delay_s=0.15, jitter_s=0.2)
DROP_EVERY_S = 0.15
TOXICS = {Kind.CUT: Toxics(refuse=True), Kind.BLACK_HOLE: Toxics(black_hole=True), Kind.SLOW: SLOW}


class Hands:
    """Carries a plan out, and heals everything when its body ends."""

    def __init__(self, servers: Mapping[str, Server], supervisor: Supervisor, settings: Settings) -> None:
        self._servers = servers
        self._children = supervisor.children
        self._settings = settings

    @asynccontextmanager
    async def at_work(self, plan: Sequence[Fault]) -> AsyncIterator[None]:
        """The faults happen while the body runs, each from now at its time; all are over when this ends."""
        async with asyncio.TaskGroup() as faults:
            for fault in plan:
                faults.create_task(self._do(fault))
            yield

    async def _do(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        sys.stderr.write(f"{fault}\n")
        if fault.target in self._servers:
            await self._to_server(self._servers[fault.target], fault)
        else:
            await self._to_process(self._children[fault.target], fault)

    async def _to_process(self, child: Child, fault: Fault) -> None:
        if fault.kind is Kind.FREEZE:
            child.signal(signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_s)
            child.signal(signal.SIGCONT)
            return
        folder = child.spec.state_dir
        if fault.wipe and folder is not None:
            child.before_restart = partial(asyncio.to_thread, shutil.rmtree, folder, ignore_errors=True)
        child.signal(signal.SIGKILL)

    async def _to_server(self, server: Server, fault: Fault) -> None:
        match fault.kind:
            case Kind.FREEZE:
                server.signal(signal.SIGSTOP)
                await asyncio.sleep(fault.lasts_s)
                server.signal(signal.SIGCONT)
            case Kind.RESTART | Kind.MOVE | Kind.REWIND:
                await self._restart(server, fault)
            case Kind.FULL:
                await self._fill_up(fault.lasts_s)
            case Kind.DROP_REPLY:
                for _ in range(max(1, int(fault.lasts_s / DROP_EVERY_S))):
                    server.proxy.drop_reply()
                    await asyncio.sleep(DROP_EVERY_S)
                server.proxy.heal()
            case _:
                server.proxy.set(TOXICS[fault.kind])
                await asyncio.sleep(fault.lasts_s)
                server.proxy.heal()

    async def _restart(self, server: Server, fault: Fault) -> None:
        if fault.kind is Kind.REWIND:
            server.note_disk()
            await asyncio.sleep(REWIND_S)
        server.proxy.set(Toxics(refuse=True))
        await server.kill()
        if fault.kind is Kind.REWIND:
            sys.stderr.write(f"          redis forgets {server.rewind_disk()} bytes\n")
        await asyncio.sleep(fault.lasts_s)
        await server.start(free_port() if fault.kind is Kind.MOVE else 0)
        server.proxy.heal()

    async def _fill_up(self, lasts_s: float) -> None:
        # Past the proxy: the hands must reach the server whatever else is wrong.
        direct = f"redis://127.0.0.1:{self._servers['redis'].proxy.upstream_port}/0"
        log = RedisLog(self._settings.redis.model_copy(update={"url": direct}), "faults", client_name="faults")
        try:
            await log.call("CONFIG", "SET", "maxmemory", "1")
            await asyncio.sleep(lasts_s)
        finally:
            with suppress(Exception):
                await log.call("CONFIG", "SET", "maxmemory", "0")
            await log.close()
