"""`headrace outbox`: what waits in the outbox, and why. Only reads."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.commands.desk import Desk, run

app = typer.Typer(
    help="What waits in the outbox, and why. The playbook is docs/playbooks/outbox.md.", no_args_is_help=True
)

Limit = Annotated[int, typer.Option(help="Most aggregates.", min=1, max=10_000)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
NAME = "headrace outbox"


@app.command()
def status(*, json: Json = False) -> None:
    """How many rows wait to be published, for their tenant, or behind a dead letter; and what became of Redis."""

    async def ask(desk: Desk) -> int:
        from headrace import outbox_screen
        from headrace.console import print_json
        from streams import outbox_state

        found = await outbox_state.state(desk.connection)
        if json:
            print_json(outbox_screen.as_json(found))
        else:
            desk.console.table(("", ""), outbox_screen.state(found, desk.clock.now()))
        return 0

    run(ask, name=NAME)


@app.command()
def stops(*, limit: Limit = 100, json: Json = False) -> None:
    """Aggregates that a buried row has stopped, as `relay.poison` says, until its dead letter is closed."""

    async def ask(desk: Desk) -> int:
        from headrace import outbox_screen
        from headrace.console import print_json
        from streams import outbox_state

        found = await outbox_state.stops(desk.connection, limit)
        if json:
            print_json({"stops": [outbox_screen.as_json(each) for each in found]})
        else:
            desk.console.table(outbox_screen.STOPS, outbox_screen.stops(found, desk.clock.now()))
        return 0

    run(ask, name=NAME)
