"""Starts what a run stands on, in order, and stops it in the reverse one.

    start: servers -> outbox, schema, topics -> workers -> relay, mirror, gateway, control -> (ready) listener -> shop
    stop:  shop, listener -> relay, mirror, workers, gateway, control (each finishes its batch) -> servers

Sources stop first, so that nothing new arrives at a process that is finishing; servers last, so that every process
can still write down where it is. The grace times below add up to less than the five seconds that Ctrl-C may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from contracts.errors import ServerMissing
from headrace import embedded
from headrace.console import Console
from headrace.devkit import children, http, ports
from headrace.devkit.children import Places
from headrace.devkit.files import secret_in
from headrace.devkit.options import APACHE, EMBEDDED, DevOptions
from headrace.devkit.supervisor import Child, Supervisor
from headrace.embedded import Kind, Ready, Servers, Source
from runtime.clock import Clock

TRAFFIC_GRACE_S = 0.7
CHILDREN_GRACE_S = 2.3
SERVERS_GRACE_S = 1.2
READY_DEADLINE_S = 60.0
HEAD_START_S = 4.0
# A child that died this often before it was ever ready will not become ready by itself.
STARTS_UNTIL_HOPELESS = 4

SERVER_PORTS: dict[Kind, int] = {"postgres": 15432, "redis": 16379, "kafka": 19092}
TITLES: dict[Kind, str] = {"postgres": "PostgreSQL", "redis": "Valkey", "kafka": "Kafka"}


@asynccontextmanager
async def servers(options: DevOptions, console: Console) -> AsyncIterator[Servers]:
    """Run the servers that were not given by URL while the body runs."""
    wanted = wanted_servers(options)
    if not wanted:
        yield Servers()
        return
    with console.step("servers: " + ", ".join(TITLES[kind] for kind in wanted)) as step:
        running = await embedded.start(
            options.data_dir / "servers", wanted, ports=SERVER_PORTS, on_ready=lambda ready: _told(ready, console)
        )
        step.detail = "ready"
    try:
        yield running
    finally:
        await asyncio.shield(running.stop(SERVERS_GRACE_S))


def wanted_servers(options: DevOptions) -> dict[Kind, Source]:
    """Which servers to start, and from where."""
    wanted: dict[Kind, Source] = {}
    if options.postgres_url is None:
        wanted["postgres"] = "embedded"
    if options.redis_url is None:
        wanted["redis"] = "embedded"
    if options.kafka in (EMBEDDED, APACHE):
        wanted["kafka"] = "system" if options.kafka == APACHE else "embedded"
    return wanted


def _told(ready: Ready, console: Console) -> None:
    taken = f" (port {ready.wanted_port} is taken)" if ready.wanted_port else ""
    console.say(f"     {ready.server}: {ready.url}{taken}, {ready.took_s:.1f} s")


@contextmanager
def placed(options: DevOptions, running: Servers, console: Console) -> Iterator[Places]:
    """Where everything of this run is, with its ports reserved; says so for each port that is not the usual one."""
    names = children.worker_names(options.workers)
    preferred = dict(children.PREFERRED_PORTS)
    if options.port is not None:
        preferred["gateway"] = options.port
    preferred |= {name: children.FIRST_WORKER_PORT + index for index, name in enumerate(names)}
    with ports.reserved(preferred) as chosen:
        for name, port in chosen.items():
            if port.taken is not None:
                console.warn(f"port {port.taken} is taken: {name} uses {port.number}")
        yield Places(
            data_dir=options.data_dir,
            postgres_url=options.postgres_url or running.url("postgres"),
            redis_url=options.redis_url or running.url("redis"),
            kafka=running.url("kafka") if options.kafka in (EMBEDDED, APACHE) else options.kafka,
            kafka_idempotent=options.kafka != EMBEDDED,
            ports={name: port.number for name, port in chosen.items()},
            secret=secret_in(options.data_dir),
        )


@asynccontextmanager
async def supervised(clock: Clock, on_start: Callable[[Child], None]) -> AsyncIterator[Supervisor]:
    """A supervisor; when the body ends, its children are stopped: sources first, then the rest together."""
    supervisor = Supervisor(clock, on_start)
    try:
        yield supervisor
    finally:
        await asyncio.shield(_stop_in_order(supervisor))


async def _stop_in_order(supervisor: Supervisor) -> None:
    await supervisor.stop(("shop", "listener"), TRAFFIC_GRACE_S)
    await supervisor.stop(supervisor.running, CHILDREN_GRACE_S)


async def start_children(
    supervisor: Supervisor, where: Places, console: Console, then: Callable[[Supervisor], None]
) -> None:
    """Start workers, then the other processes, then what `then` starts, and wait until all but the last are ready.

    Workers go first and alone: they take longest, some 3 s of it waiting for their consumer group, and the others
    load their libraries meanwhile.

    Raises:
        ServerMissing: one did not become ready; the message has its last words and the name of its log.
    """
    workers = [children.worker(where, name) for name in where.workers]
    others = [children.process(where, name) for name in ("relay", "mirror", "gateway", "control")]
    where.logs.mkdir(parents=True, exist_ok=True)
    for left in where.logs.glob("*.log"):
        left.unlink()
    with console.step("processes: " + ", ".join(spec.name for spec in [*others, *workers])) as step:
        async with http.session() as client:
            started = [supervisor.start(spec) for spec in workers]
            await _head_start(client, [where.url(spec.name) for spec in workers])
            started += [supervisor.start(spec) for spec in others]
            then(supervisor)
            await asyncio.gather(*(_ready(child, where.ports[child.spec.name], client) for child in started))
        step.detail = "ready"


async def _head_start(client: http.Client, urls: list[str]) -> None:
    """Until the workers' web servers answer at all, or the head start is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HEAD_START_S):
            for url in urls:
                while not await http.is_ready(client, f"{url}/healthz"):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(http.READY_POLL_S)


async def _ready(child: Child, port: int, client: http.Client) -> None:
    url = child.spec.ready_url or ""
    try:
        async with asyncio.timeout(READY_DEADLINE_S):
            while not (child.pid and ports.listens(child.pid, port) and await http.is_ready(client, url)):
                if child.starts >= STARTS_UNTIL_HOPELESS and child.pid is None:
                    raise _not_ready(child, f"ended {child.starts} times, last with status {child.returncode}")
                await asyncio.sleep(http.READY_POLL_S)
    except TimeoutError:
        raise _not_ready(child, f"not ready after {READY_DEADLINE_S:g} s") from None


def _not_ready(child: Child, why: str) -> ServerMissing:
    said = " | ".join(line.strip() for line in child.log_tail.splitlines())
    return ServerMissing(
        server=child.spec.name,
        url=child.spec.ready_url or "",
        reason=f"{why}; its last words: {said}" if said else why,
        remedy=f"see {child.spec.log}",
    )
