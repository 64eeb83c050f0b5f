"""What happens while a run is up: the listening client, the shop, and either an endless watch or a timed comparison.

Client and shop are started early and wait for a file each, so that their libraries are loaded while the other processes
get ready: the client waits for endpoints.json, the shop for the client to be connected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from contracts.errors import HeadraceError
from headrace.console import Console, print_json
from headrace.devkit import children, endpoints, faults, http, stack, verify
from headrace.devkit.children import Places
from headrace.devkit.endpoints import Endpoints
from headrace.devkit.evidence import Evidence
from headrace.devkit.options import DevOptions
from headrace.devkit.report import Report
from headrace.devkit.supervisor import Supervisor
from headrace.devkit.tenants import TENANTS
from headrace.embedded import Servers
from runtime.clock import Clock
from runtime.settings import Settings

FAULTS_FOUND = 1
FAULT_LINES = 20
WATCH_S = 0.2
LOOK_S = 0.02
CLIENT_DEADLINE_S = 15.0
# How long the shop may take, beyond its time, to finish what is under way.
SHOP_GRACE_S = 20.0


@dataclass
class Session:
    """The parts that a run's second half works with. `started_s`: start of this program, seconds since the epoch."""

    options: DevOptions
    console: Console
    clock: Clock
    started_s: float
    where: Places
    settings: Settings
    servers: Servers

    def warm_up(self, supervisor: Supervisor) -> None:
        """Start client and shop, to wait until they are needed; leftovers of a killed run are taken away first."""
        if not self.options.traffic:
            return
        for path in (self._committed, self._received, self._go):
            path.unlink(missing_ok=True)
        timed = self.options.duration_s is not None
        supervisor.start(children.listener(self.where, self.where.data_dir / endpoints.FILE, self._received))
        supervisor.start(
            children.shop(
                self.where,
                self._committed if timed else None,
                after=self._go,
                rate_per_s=self.options.rate_per_s,
                duration_s=self.options.duration_s,
            )
        )

    def clear(self) -> None:
        """Take away what only a running session needs."""
        self._go.unlink(missing_ok=True)

    async def work(self, supervisor: Supervisor, card: Endpoints, startup_s: float) -> int:
        """Until cancelled, or until the comparison is done; returns the exit status."""
        if not self.options.traffic:
            return await self._watch()
        evidence = Evidence(self._committed, self._received)
        await self._connected(evidence)
        async with _beside(self._first_event(evidence, supervisor, startup_s)):
            if self.options.duration_s is not None:
                return await self._timed(evidence, supervisor, card, startup_s)
            self._go.touch()
            return await self._watch()

    async def _watch(self) -> int:
        """Children are looked after by the supervisor; a server that ends by itself ends the run."""
        while not self.servers.dead():  # noqa: ASYNC110  # processes announce their end to nobody
            await asyncio.sleep(WATCH_S)
        names = ", ".join(stack.TITLES[kind] for kind in self.servers.dead())
        self.console.fail(f"{names} ended by itself; see {self.where.data_dir / 'servers'}/*/server.log")
        return 1

    async def _connected(self, evidence: Evidence) -> None:
        """Wait until the client has a stream for each tenant."""
        end_s = self.clock.monotonic_s() + CLIENT_DEADLINE_S
        while len(evidence.connected) < len(TENANTS):
            if self.clock.monotonic_s() > end_s:
                raise HeadraceError(f"no client connected within {CLIENT_DEADLINE_S:g} s; see {self.where.logs}")
            await asyncio.sleep(LOOK_S)
            evidence.refresh()

    async def _first_event(self, evidence: Evidence, supervisor: Supervisor, startup_s: float) -> None:
        while evidence.first_order_s is None:
            await asyncio.sleep(LOOK_S)
            evidence.refresh()
        total_s = evidence.first_order_s - self.started_s
        after_ready_s = max(0.0, total_s - startup_s)
        self.console.say(f"First order at a client {total_s:.1f} s after the start, {after_ready_s:.1f} s after ready.")
        if self.options.duration_s is None:
            await supervisor.stop(("listener",), stack.TRAFFIC_GRACE_S)

    async def _timed(self, evidence: Evidence, supervisor: Supervisor, card: Endpoints, startup_s: float) -> int:
        async with http.session() as client:
            tables = await self._tables(client, card)
            self._go.touch()
            async with _beside(faults.inject(self.options.kills, supervisor, self.console)):
                await self._shop_ended(supervisor)
            self.console.say("traffic is over: waiting for what is under way, then comparing …")
            report, faults_found = await verify.conclude(
                evidence, tables, self.clock, startup_s=startup_s, restarts=lambda: supervisor.restarts
            )
        return self._show(report, faults_found)

    async def _shop_ended(self, supervisor: Supervisor) -> None:
        shop = supervisor.children["shop"]
        within_s = (self.options.duration_s or 0.0) + SHOP_GRACE_S
        if not await supervisor.ended("shop", within_s) or shop.returncode != 0:
            raise HeadraceError(f"the sample shop failed (status {shop.returncode}); see {shop.spec.log}")

    async def _tables(self, client: http.Client, card: Endpoints) -> verify.Tables:
        access = {tenant.id: tenant.token for tenant in card.tenants.values()}
        tables = verify.Tables(client, card.workers, access, self.settings.tool_latency.window_s)
        return replace(tables, since_ms=await verify.first_clean_window_ms(tables))

    def _show(self, report: Report, faults_found: list[str]) -> int:
        for line in faults_found[:FAULT_LINES]:
            self.console.warn(line)
        if self.options.json_output:
            print_json(report.as_json())
        else:
            self.console.table(("", ""), [(name, str(value)) for name, value in report.as_json().items()])
        return FAULTS_FOUND if report.faults else 0

    @property
    def _committed(self) -> Path:
        return self.where.data_dir / "committed.jsonl"

    @property
    def _received(self) -> Path:
        return self.where.data_dir / "received.jsonl"

    @property
    def _go(self) -> Path:
        return self.where.data_dir / "traffic.go"


@asynccontextmanager
async def _beside(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Let `work` run while the body does; what is not done by then is cancelled, what went wrong is raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
