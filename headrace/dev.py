"""`headrace dev`: everything on this machine in one command, with sample traffic, until Ctrl-C or --duration.

One run, from top to bottom: the data directory and its lock, the servers, the outbox table with schema and topics,
the child processes, endpoints.json, the listening client, the shop, and at the end of a timed run the comparison.
What is started when and stopped in which order is drawn in `headrace.devkit.stack`.
"""

from __future__ import annotations

import asyncio
import os
import webbrowser
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from contracts.errors import HeadraceError
from headrace.console import Console, print_json
from headrace.devkit import children, endpoints, faults, http, prepare, stack, verify
from headrace.devkit.children import Places
from headrace.devkit.endpoints import Endpoints, TenantAccess
from headrace.devkit.evidence import Evidence
from headrace.devkit.lock import locked
from headrace.devkit.options import DevOptions
from headrace.devkit.report import Report
from headrace.devkit.supervisor import Child, ChildSpec, Supervisor
from headrace.devkit.tenants import CHANNELS, TENANTS
from headrace.embedded import Servers
from runtime import tokens
from runtime.clock import Clock, SystemClock
from runtime.logs import configure
from runtime.process import run_until_signalled
from runtime.settings import Settings, load

FAULTS_FOUND = 1
FAULT_LINES = 20
WATCH_S = 0.2
CLIENT_DEADLINE_S = 15.0
# How long a shop may take to notice that its time is over.
SHOP_GRACE_S = 20.0


def run(options: DevOptions) -> int:
    """Do the whole run; returns the exit status: 0, or 1 for a failed start or a fault in the comparison.

    Raises:
        SettingsError: options that contradict each other; nothing was started.
    """
    clock = SystemClock()
    console = Console(clock, to_stderr=options.json_output)
    status = 0

    async def main(stop: asyncio.Event) -> None:
        nonlocal status
        status = await _until_stopped(Run(options, console, clock), stop)

    options.check()
    return run_until_signalled(main) or status


async def _until_stopped(run_: Run, stop: asyncio.Event) -> int:
    """Run to the end, or take everything down when `stop` is set."""
    work = asyncio.create_task(run_.work())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        run_.console.say("stopping: traffic, processes, servers …")
        work.cancel()
    try:
        return await work
    except asyncio.CancelledError:
        run_.console.say("stopped")
        return 0
    except HeadraceError as error:
        run_.console.fail(str(error))
        return 1


@dataclass
class Run:
    """One run and what its parts share."""

    options: DevOptions
    console: Console
    clock: Clock

    async def work(self) -> int:
        """Everything, in order; whatever was started is stopped when this ends, however it ends."""
        data_dir = self.options.data_dir
        async with AsyncExitStack() as cleanup:
            cleanup.enter_context(locked(data_dir))
            with ExitStack() as live:
                live.enter_context(self.console)
                running = await cleanup.enter_async_context(stack.servers(self.options, self.console))
                where = stack.places(self.options, running, self.console)
                # This process is one more that reads its settings from the environment.
                os.environ.update(children.settings_env(where))
                settings = load()
                configure(settings.log.model_copy(update={"level": "warning"}), process="dev")
                await prepare.everything(settings, self.console)
                card = self._endpoints(where, settings)
                cleanup.callback(endpoints.remove, data_dir)
                supervisor = await cleanup.enter_async_context(
                    stack.supervised(self.clock, lambda child: self._started(child, card, supervisor))
                )
                await stack.start_children(supervisor, where, self.console)
                endpoints.write(data_dir, replace(card, processes=supervisor.pids))
            startup_s = self._since_start_s()
            self._welcome(card, startup_s)
            traffic = Traffic(self, where, settings, card, supervisor, running)
            return await traffic.work(startup_s)

    def _since_start_s(self) -> float:
        """Since the operating system started this process: imports count too."""
        return self.clock.wall_s() - _process_start_s()

    def _endpoints(self, where: Places, settings: Settings) -> Endpoints:
        access = {
            tenant.name: TenantAccess(
                tenant.id,
                tokens.mint(
                    settings.auth,
                    self.clock,
                    tenant_id=tenant.id,
                    channels=CHANNELS,
                    subject=f"dev:{tenant.name}",
                    lifetime_s=children.TOKEN_LIFETIME_S,
                ),
            )
            for tenant in TENANTS
        }
        return Endpoints(
            pid=os.getpid(),
            page=f"{where.url('gateway')}/#token={access[TENANTS[0].name].token}",
            gateway=where.url("gateway"),
            postgres=where.postgres_url,
            redis=where.redis_url,
            kafka=where.kafka,
            relay=where.url("relay"),
            mirror=where.url("mirror"),
            workers=tuple(where.url(name) for name in where.workers),
            tenants=access,
            logs=str(where.logs),
        )

    def _started(self, child: Child, card: Endpoints, supervisor: Supervisor) -> None:
        if child.starts > 1:
            self.console.warn(
                f"{child.spec.name} ended with status {child.returncode}; started again (pid {child.pid})"
            )
            endpoints.write(self.options.data_dir, replace(card, processes=supervisor.pids))

    def _welcome(self, card: Endpoints, startup_s: float) -> None:
        say = self.console.say
        say()
        say(f"Headrace is ready after {startup_s:.1f} s. The page of tenant {TENANTS[0].name}:")
        say()
        say(f"  {card.page}", strong=True)
        say()
        say(f"Addresses and tokens of all tenants: {self.options.data_dir / endpoints.FILE}; logs: {card.logs}")
        if self.options.duration_s is None:
            say("Ctrl-C stops everything.")
        if self.options.open_browser:
            webbrowser.open(card.page)


@dataclass
class Traffic:
    """The second half of a run: client, shop, and either an endless watch or a comparison."""

    run: Run
    where: Places
    settings: Settings
    card: Endpoints
    supervisor: Supervisor
    servers: Servers

    async def work(self, startup_s: float) -> int:
        """Until cancelled, or until the comparison is done."""
        duration_s = self.run.options.duration_s
        if not self.run.options.traffic:
            return await self._watch()
        evidence = await self._listen()
        if duration_s is not None:
            return await self._timed(evidence, duration_s, startup_s)
        self.supervisor.start(self._shop(None))
        async with _beside(self._first_event(evidence, startup_s)):
            return await self._watch()

    async def _watch(self) -> int:
        """Children look after themselves from here; a server that ends by itself ends the run."""
        while not self.servers.dead():  # noqa: ASYNC110  # processes announce their end to nobody
            await asyncio.sleep(WATCH_S)
        names = ", ".join(stack.TITLES[kind] for kind in self.servers.dead())
        self.run.console.fail(f"{names} ended by itself; see {self.where.data_dir / 'servers'}/*/server.log")
        return 1

    async def _listen(self) -> Evidence:
        """Start the listening client and wait until it has a stream for each tenant."""
        committed, received = self._ledger("committed"), self._ledger("received")
        for ledger in (committed, received):
            ledger.unlink(missing_ok=True)
        evidence = Evidence(committed, received)
        card = self.where.data_dir / endpoints.FILE
        self.supervisor.start(children.listener(self.where, card, received))
        end_s = self.run.clock.monotonic_s() + CLIENT_DEADLINE_S
        while len(evidence.connected) < len(TENANTS):
            if self.run.clock.monotonic_s() > end_s:
                raise HeadraceError(f"no client connected within {CLIENT_DEADLINE_S:g} s; see {self.where.logs}")
            await asyncio.sleep(0.02)
            evidence.refresh()
        return evidence

    async def _first_event(self, evidence: Evidence, startup_s: float) -> None:
        while evidence.first_order_s is None:
            await asyncio.sleep(0.02)
            evidence.refresh()
        total_s = evidence.first_order_s - _process_start_s()
        after_ready_s = max(0.0, total_s - startup_s)
        self.run.console.say(
            f"First order at a client {total_s:.1f} s after the start, {after_ready_s:.1f} s after ready."
        )
        if self.run.options.duration_s is None:
            await self.supervisor.stop(("listener",), stack.TRAFFIC_GRACE_S)

    async def _timed(self, evidence: Evidence, duration_s: float, startup_s: float) -> int:
        async with http.session() as client:
            tables = await self._tables(client)
            shop = self.supervisor.start(self._shop(duration_s))
            kills = faults.inject(self.run.options.kills, self.supervisor, self.run.console)
            async with _beside(kills), _beside(self._first_event(evidence, startup_s)):
                if not await self.supervisor.ended("shop", duration_s + SHOP_GRACE_S) or shop.returncode != 0:
                    raise HeadraceError(f"the sample shop failed (status {shop.returncode}); see {shop.spec.log}")
            self.run.console.say("traffic is over: waiting for what is under way, then comparing …")
            report, faults_found = await verify.conclude(
                evidence,
                tables,
                self.run.clock,
                startup_s=startup_s,
                restarts=lambda: self.supervisor.restarts,
            )
        return self._show(report, faults_found)

    async def _tables(self, client: http.Client) -> verify.Tables:
        access = {tenant.id: tenant.token for tenant in self.card.tenants.values()}
        tables = verify.Tables(client, self.card.workers, access, self.settings.worker.window_s)
        return replace(tables, since_ms=await verify.first_clean_window_ms(tables))

    def _show(self, report: Report, faults_found: list[str]) -> int:
        console = self.run.console
        for line in faults_found[:FAULT_LINES]:
            console.warn(line)
        if self.run.options.json_output:
            print_json(report.as_json())
        else:
            console.table(("", ""), [(name, str(value)) for name, value in report.as_json().items()])
        return FAULTS_FOUND if report.faults else 0

    def _shop(self, duration_s: float | None) -> ChildSpec:
        ledger = None if duration_s is None else self._ledger("committed")
        return children.shop(self.where, ledger, rate_per_s=self.run.options.rate_per_s, duration_s=duration_s)

    def _ledger(self, name: str) -> Path:
        return self.where.data_dir / f"{name}.jsonl"


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


def _process_start_s() -> float:
    """When the operating system started this process, in seconds since the Unix epoch: imports count too."""
    return float(psutil.Process().create_time())
