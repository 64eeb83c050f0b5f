"""`headrace dev`: everything on this machine in one command, with sample traffic, until Ctrl-C or --duration.

One run, from top to bottom: the data directory and its lock, the servers, the outbox table with schema and topics,
the child processes, endpoints.json, the listening client, the shop, and at the end of a timed run the comparison.
What is started when and stopped in which order is drawn in `headrace.devkit.stack`.
"""

from __future__ import annotations

import asyncio
import os
import webbrowser
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace

import psutil

from contracts.errors import HeadraceError
from headrace.console import Console
from headrace.devkit import children, endpoints, prepare, stack
from headrace.devkit.children import Places
from headrace.devkit.endpoints import Endpoints, TenantAccess
from headrace.devkit.lock import locked
from headrace.devkit.options import DevOptions
from headrace.devkit.session import Session
from headrace.devkit.supervisor import Child, Supervisor
from headrace.devkit.tenants import CHANNELS, TENANTS, Tenant
from runtime import tokens
from runtime.clock import Clock, SystemClock
from runtime.logs import configure
from runtime.process import run_until_signalled
from runtime.settings import Settings, load


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
                where = cleanup.enter_context(stack.placed(self.options, running, self.console))
                # This process is one more that reads its settings from the environment.
                os.environ.update(children.settings_env(where))
                settings = load()
                configure(settings.log.model_copy(update={"level": "warning"}), process="dev")
                await prepare.everything(settings, self.console)
                card = self._endpoints(where, settings)
                endpoints.remove(data_dir)
                cleanup.callback(endpoints.remove, data_dir)
                session = Session(self.options, self.console, self.clock, _process_start_s(), where, settings, running)
                cleanup.callback(session.clear)
                supervisor = await cleanup.enter_async_context(
                    stack.supervised(self.clock, lambda child: self._started(child, card, supervisor))
                )
                await stack.start_children(supervisor, where, self.console, session.warm_up)
                startup_s = self.clock.wall_s() - _process_start_s()
                endpoints.write(data_dir, replace(card, processes=supervisor.pids))
            self._welcome(card, startup_s)
            return await session.work(supervisor, card, startup_s)

    def _endpoints(self, where: Places, settings: Settings) -> Endpoints:
        access = {tenant.name: TenantAccess(tenant.id, self._token(settings, tenant)) for tenant in TENANTS}
        operator = self._token(settings, TENANTS[0], operator=True)
        return Endpoints(
            pid=os.getpid(),
            page=f"{where.url('gateway')}/#token={operator}",
            gateway=where.url("gateway"),
            control=where.url("control"),
            operator=operator,
            postgres=where.postgres_url,
            redis=where.redis_url,
            kafka=where.kafka,
            relay=where.url("relay"),
            mirror=where.url("mirror"),
            workers=tuple(where.url(name) for name in where.workers),
            tenants=access,
            logs=str(where.logs),
        )

    def _token(self, settings: Settings, tenant: Tenant, *, operator: bool = False) -> str:
        return tokens.mint(
            settings.auth,
            self.clock,
            tenant_id=tenant.id,
            channels=CHANNELS,
            subject=f"dev:{tenant.name}",
            lifetime_s=children.TOKEN_LIFETIME_S,
            operator=operator,
        )

    def _started(self, child: Child, card: Endpoints, supervisor: Supervisor) -> None:
        if child.starts > 1:
            self.console.warn(
                f"{child.spec.name} ended with status {child.returncode}; started again (pid {child.pid})"
            )
            if (self.options.data_dir / endpoints.FILE).exists():
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


def _process_start_s() -> float:
    """When the operating system started this process, in seconds since the Unix epoch: imports count too."""
    return float(psutil.Process().create_time())
