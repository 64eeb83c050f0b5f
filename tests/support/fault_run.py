"""One run of the fault suite: the whole way from outbox to client, under faults, and what the judge says of it.

Two relays, two mirrors, two workers and a gateway run as real processes against servers behind proxies, as `headrace
dev` starts them; the sample shop commits for some time, a client listens, and meanwhile the plan's faults happen. When
the shop has ended and everything is healed, what was committed is held against the topics, the client and the windows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.console import Console
from headrace.devkit import children, endpoints, http, prepare, stack, verify
from headrace.devkit.children import Places
from headrace.devkit.endpoints import Endpoints, TenantAccess
from headrace.devkit.evidence import Evidence
from headrace.devkit.report import Report
from headrace.devkit.supervisor import ChildSpec, Supervisor
from headrace.devkit.tenants import CHANNELS, TENANTS
from headrace.servers.probes import HOST, free_port
from runtime import tokens
from runtime.clock import SystemClock
from runtime.settings import Settings
from tests.support.fault_hands import Hands
from tests.support.fault_plan import Fault
from tests.support.fault_servers import Server, fault_servers
from tests.support.fault_sights import Judgement, judged

SECRET = "only-for-tests-" + "0" * 32
TWINS = ("relay", "mirror")
WORKERS = 2
PROCESSES = ("relay", "relay-2", "mirror", "mirror-2", "worker-1", "worker-2", "gateway")
# So that what is taken over is taken over soon, and a batch is small enough to be hit in the middle.
HASTE = {
    "HEADRACE_MIRROR__LEASE_S": "2",
    "HEADRACE_RELAY__BATCH_ROWS": "50",
    "HEADRACE_RELAY__SHARDS": "32",
    "HEADRACE_REDIS__COMMAND_TIMEOUT_S": "0.9",
    "HEADRACE_POSTGRES__IDLE_IN_TRANSACTION_TIMEOUT_S": "1.5",
}
# The apparatus comes to the end of an outage by itself; this is for what it was in the middle of.
SETTLE_S = 1.0
# How long the shop may take, beyond its time, for what outages have held up.
SHOP_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """What a run showed. `seconds`: how long the traffic lasted; `told`: a line for each fault that the report has;
    `gaps`: how often a client was told that it may have missed something."""

    plan: Sequence[Fault]
    seconds: float
    report: Report
    told: Sequence[str]
    judgement: Judgement
    gaps: int

    @property
    def clean(self) -> bool:
        """Whether the bar holds: 0 lost, 0 doubled, 0 reordered, 0 wrong windows, no row left behind or buried."""
        return (
            all(verdict.clean for verdict in self.judgement.verdicts)
            and not (self.report.faults or self.told)
            and not (self.judgement.dead_letters or self.judgement.unprocessed)
        )

    def __str__(self) -> str:
        kills = sum(fault.target in PROCESSES for fault in self.plan)
        head = f"{kills} kills and freezes, {len(self.plan) - kills} outages in {self.seconds:.0f} s of traffic"
        report, judgement = self.report, self.judgement
        windows = f"{report.windows_checked} windows, {report.windows_wrong + report.pushed_wrong} wrong"
        rest = f"{windows}; {judgement.unprocessed} rows left; {self.gaps} gaps told"
        lines = [head, *map(str, judgement.verdicts), rest, f"p99 {report.commit_to_client_ms.get('p99')} ms"]
        return "\n".join([*lines, *judgement.dead_letters, *self.told[:10], *judgement.trails[:10]])


async def run_faults(
    folder: Path, plan: Sequence[Fault], *, seconds: float, rate_per_s: float, system: bool
) -> Outcome:
    """Carry the plan out on fresh servers in `folder`, with `rate_per_s` events a second for `seconds`."""
    clock = SystemClock()
    async with fault_servers(folder / "servers", system=system) as servers:
        where = _places(folder, servers, system=system)
        settings = _settings(where)
        await prepare.everything(settings, Console(clock, to_stderr=True))
        async with stack.supervised(clock, lambda _child: None) as supervisor:
            await _start_all(supervisor, where)
            evidence = await _open_shop(supervisor, where, settings, rate_per_s=rate_per_s, seconds=seconds)
            async with Hands(servers, supervisor, settings).at_work(plan):
                if not await supervisor.ended("shop", seconds + SHOP_S):
                    raise TimeoutError(f"the shop had not committed everything {SHOP_S:g} s after its time")
            await asyncio.sleep(SETTLE_S)
            async with http.session() as client:
                access = {tenant.id: _token(settings, tenant.id) for tenant in TENANTS}
                urls = [where.url(name) for name in where.workers]
                tables = verify.Tables(client, urls, access, settings.tool_latency.window_s)
                report, told = await verify.conclude(
                    evidence, tables, clock, startup_s=0.0, restarts=lambda: supervisor.restarts
                )
            judgement = await judged(settings, evidence)
    return Outcome(plan, seconds, report, told, judgement, evidence.gaps)


def _places(folder: Path, servers: dict[str, Server], *, system: bool) -> Places:
    names = ("relay", "mirror", "gateway", "control", *children.worker_names(WORKERS))
    return Places(
        data_dir=folder,
        postgres_url=f"postgresql://postgres@{HOST}:{servers['postgres'].proxy.port}/postgres",
        redis_url=f"redis://{HOST}:{servers['redis'].proxy.port}/0",
        kafka=f"{HOST}:{servers['kafka'].proxy.port}",
        kafka_idempotent=system,
        ports={name: free_port() for name in names},
        secret=SECRET,
    )


def _settings(where: Places) -> Settings:
    return Settings.model_validate(
        {
            "postgres": {"url": where.postgres_url},
            "redis": {"url": where.redis_url},
            "kafka": {"bootstrap": where.kafka, "idempotence": where.kafka_idempotent},
            "auth": {"secret": where.secret, "max_age_s": children.TOKEN_LIFETIME_S},
        }
    )


def _hasty(spec: ChildSpec, **further: str) -> ChildSpec:
    return replace(spec, env={**spec.env, **HASTE, **further})


def _specs(where: Places) -> list[ChildSpec]:
    specs = [_hasty(children.worker(where, name)) for name in where.workers]
    specs += [_hasty(children.process(where, name)) for name in ("relay", "mirror", "gateway")]
    for name in TWINS:
        port = free_port()
        twin = _hasty(children.process(where, name), **{f"HEADRACE_{name.upper()}__PORT": str(port)})
        log = twin.log.with_name(f"{name}-2.log")
        specs.append(replace(twin, name=f"{name}-2", log=log, ready_url=f"http://{HOST}:{port}/readyz"))
    return specs


async def _start_all(supervisor: Supervisor, where: Places) -> None:
    where.logs.mkdir(parents=True, exist_ok=True)
    specs = _specs(where)
    for spec in specs:
        supervisor.start(spec)
    async with http.session() as client, asyncio.timeout(stack.READY_DEADLINE_S):
        for spec in specs:
            while not await http.is_ready(client, spec.ready_url or ""):  # noqa: ASYNC110 - another process
                await asyncio.sleep(http.READY_POLL_S)


async def _open_shop(
    supervisor: Supervisor, where: Places, settings: Settings, *, rate_per_s: float, seconds: float
) -> Evidence:
    committed, received, go = (where.data_dir / name for name in ("committed.jsonl", "received.jsonl", "traffic.go"))
    endpoints.write(where.data_dir, _card(where, settings))
    supervisor.start(children.listener(where, where.data_dir / endpoints.FILE, received))
    supervisor.start(children.shop(where, committed, after=go, rate_per_s=rate_per_s, duration_s=seconds))
    evidence = Evidence(committed, received)
    async with asyncio.timeout(30):
        while len(evidence.connected) < len(TENANTS):
            await asyncio.sleep(0.05)
            evidence.refresh()
    go.touch()
    return evidence


def _card(where: Places, settings: Settings) -> Endpoints:
    return Endpoints(
        pid=0,
        page="",
        gateway=where.url("gateway"),
        control=where.url("control"),
        operator="",
        postgres=where.postgres_url,
        redis=where.redis_url,
        kafka=where.kafka,
        relay=where.url("relay"),
        mirror=where.url("mirror"),
        workers=tuple(where.url(name) for name in where.workers),
        tenants={tenant.name: TenantAccess(tenant.id, _token(settings, tenant.id)) for tenant in TENANTS},
        logs=str(where.logs),
    )


def _token(settings: Settings, tenant: str) -> str:
    return tokens.mint(
        settings.auth, SystemClock(), tenant_id=tenant, channels=CHANNELS, subject="faults", lifetime_s=24 * 3600
    )
