"""`headrace tenants`: hold a tenant's rows in the outbox, let them go, see who waits.

It talks to PostgreSQL itself: what it writes is all that a relay needs to know.
"""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.commands.desk import Desk, run, who
from headrace.commands.erase import erase

app = typer.Typer(
    help="Pause, resume and erase tenants. The playbooks are docs/playbooks/outbox.md and erase-a-tenant.md.",
    no_args_is_help=True,
)

Tenant = Annotated[str, typer.Argument(help="The tenant's id.")]
Why = Annotated[str, typer.Option(help="Why, in a few words; it is written into the audit with your name.")]
Limit = Annotated[int, typer.Option(help="Most lines.", min=1, max=10_000)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
NAME = "headrace tenants"

app.command()(erase)


@app.command()
def pause(tenant: Tenant, *, why: Why) -> None:
    """Hold a tenant's rows from now on. They wait in the outbox, in order; other tenants are not delayed."""

    async def ask(desk: Desk) -> int:
        from streams import tenants

        done = await tenants.pause(desk.connection, tenant, why=why, by=who())
        desk.console.say(f"{tenant} is paused" if done else f"{tenant} was paused already: nothing has changed")
        return 0

    run(ask, name=NAME)


@app.command()
def resume(tenant: Tenant, *, why: Why) -> None:
    """Let a tenant's rows go, the oldest first. New ones wait behind them."""

    async def ask(desk: Desk) -> int:
        from streams import tenants

        done = await tenants.resume(desk.connection, tenant, why=why, by=who())
        desk.console.say(f"{tenant} goes on" if done else f"{tenant} was not paused: nothing has changed")
        return 0

    run(ask, name=NAME)


@app.command("list")
def list_(*, limit: Limit = 100, json: Json = False) -> None:
    """Tenants that are paused or have rows on hold, the longest paused first."""

    async def ask(desk: Desk) -> int:
        from headrace import outbox_screen
        from headrace.console import print_json
        from streams import tenants

        found = await tenants.states(desk.connection, limit)
        if json:
            print_json({"tenants": [outbox_screen.as_json(each) for each in found]})
        else:
            desk.console.table(outbox_screen.TENANTS, outbox_screen.tenants(found, desk.clock.now()))
        return 0

    run(ask, name=NAME)


@app.command()
def history(*, limit: Limit = 100, json: Json = False) -> None:
    """Who paused and resumed whom, when and why; the newest first."""

    async def ask(desk: Desk) -> int:
        from headrace import outbox_screen
        from headrace.console import print_json
        from streams import tenants

        found = await tenants.history(desk.connection, limit)
        if json:
            print_json({"moves": [outbox_screen.as_json(each) for each in found]})
        else:
            desk.console.table(outbox_screen.MOVES, outbox_screen.moves(found))
        return 0

    run(ask, name=NAME)
