"""`headrace tenants erase`: forget a tenant, and say what cannot be forgotten yet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.desk import Desk, run, who

if TYPE_CHECKING:
    from headrace.console import Console
    from headrace.erasing import Erasure, Found
    from runtime.clock import Clock
    from runtime.settings import Settings

Tenant = Annotated[str, typer.Argument(help="The tenant's id.")]
Why = Annotated[str, typer.Option(help="Why, in a few words; it is written into the audit with your name.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be erased, and change nothing.")]
Archives = Annotated[
    list[Path] | None,
    typer.Option("--archive", help="A folder of `headrace archive`, repeatable.", exists=True, file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="Report as one JSON object on standard output.")]
NAME = "headrace tenants erase"


def erase(
    tenant: Tenant,
    *,
    why: Why,
    archive: Archives = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Erase a tenant from tables, dead letters, Redis and archives, and say what remains where until when.

    Workers must run: the owner of each row erases it. Run again after a kill, it goes on. Pause the tenant first: what
    it sends from the erasure on is new data, and is kept.
    """

    def check(_settings: Settings, _clock: Clock) -> None:
        from streams import tenants
        from streams.erasure import check_tenant

        check_tenant(tenant)
        tenants.check(tenant, why, who())

    async def ask(desk: Desk) -> int:
        from headrace.erasing import Erasure
        from streams.redis_log import RedisLog

        archives = tuple(dict.fromkeys(folder.resolve() for folder in archive or ()))
        redis = RedisLog(desk.settings.redis, desk.settings.prefix, client_name="headrace-erase")
        try:
            job = Erasure(desk.settings, desk.clock, desk.connection, redis, tenant, archives)
            return await _erase(desk, job, why, yes=yes, dry_run=dry_run, json=json)
        finally:
            await redis.close()

    run(ask, name=NAME, first=check)


async def _erase(desk: Desk, job: Erasure, why: str, *, yes: bool, dry_run: bool, json: bool) -> int:
    from headrace.console import Console, print_json
    from headrace.erasing import refuse_unknown, remains

    console = Console(desk.clock, to_stderr=json)
    unfinished = await job.unfinished()
    found = await job.looked()
    if unfinished is None:
        refuse_unknown(job.tenant, found)
    console.table(("place", "holds", ""), [_line(each) for each in found])
    if unfinished is not None:
        console.say(f"{unfinished} of this tenant was begun and not ended: it goes on")
    left = remains(await job.retentions(), job.archives)
    if not dry_run and not yes:
        typer.confirm(f"Erase all of that of tenant {job.tenant!r}? It cannot be undone", abort=True, err=True)
    done = [] if dry_run else await _carried_out(desk, job, why, console)
    console.say("What remains:" if done else "What would remain:", strong=True)
    for line in left:
        console.say(f"  {line}")
    if json:
        said = {"found": found, "erased": done}
        lists = {name: [each._asdict() for each in value] for name, value in said.items()}
        print_json({"tenant_id": job.tenant, "dry_run": dry_run, **lists, "remains": left})
    return 0


async def _carried_out(desk: Desk, job: Erasure, why: str, console: Console) -> list[Found]:
    from headrace.commands.archive import writing_alone

    done: list[Found] = []
    with ExitStack() as held, console.step(f"erase {job.tenant}") as step:
        for folder in job.archives:
            held.enter_context(writing_alone(folder))  # before anything is erased

        def say(detail: str) -> None:
            if detail != step.detail:
                step.detail = detail
                console.say(f"  {detail}")

        await job.run(why=why, by=who(), told=done.append, progress=say)
    console.table(("place", "erased", ""), [_line(each) for each in done])
    if not await _is_paused(desk, job.tenant):
        console.warn("the tenant is not paused: what it has sent since is new data, and is kept")
    return done


def _line(found: Found) -> tuple[str, str, str]:
    return found.place, f"{found.amount:,}", found.unit


async def _is_paused(desk: Desk, tenant: str) -> bool:
    return bool(await desk.connection.fetchval("SELECT 1 FROM headrace.tenant_pause WHERE tenant_id = $1", tenant))
