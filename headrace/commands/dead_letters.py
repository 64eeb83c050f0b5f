"""`headrace dead-letters`: look at what could not be processed, send it again, or give it up.

It talks to PostgreSQL itself, not to the control process: at the hour when it is needed, that may be what is down, and
the database checks and writes down every move, whoever makes it. Only the sending is left to the control process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.desk import Desk, run, who
from headrace.commands.letter_options import Chosen, with_filter

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.letter_filter import LetterFilter
    from streams.letter_moves import Order
    from streams.postgres import Connection

app = typer.Typer(
    help="What could not be processed: look, send again, give up. The playbook is docs/playbooks/dead-letters.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Why = Annotated[str, typer.Option(help="Why, in a few words; it is written into the audit with your name.")]
Every = Annotated[bool, typer.Option("--all", help="Yes, all letters: needed when no option says which.")]
Most = Annotated[int | None, typer.Option("--limit", help="Most letters; control.requeue_letters.", min=1)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
FOLLOW_S = 1.0


@app.command("list")
@with_filter
def list_(
    *,
    chosen: Chosen,
    count: Annotated[bool, typer.Option("--count", help="Only count them, by state, source and reason.")] = False,
    limit: Annotated[int, typer.Option(help="Most letters.", min=1, max=10_000)] = 50,
    before: Annotated[int | None, typer.Option(help="Only ids below this: the next page.", min=1)] = None,
    json: Json = False,
) -> None:
    """Letters, newest first."""

    async def ask(desk: Desk) -> int:
        from headrace import letter_screen
        from headrace.console import print_json
        from streams import letter_json, letter_rows
        from streams.letter_filter import MAX_ID

        which, now = chosen.filter(desk.clock), desk.clock.now()
        if count:
            groups = await letter_rows.summary(desk.connection, which)
            if json:
                print_json({"groups": [letter_json.of_group(group) for group in groups]})
            else:
                desk.console.table(letter_screen.GROUPS, letter_screen.groups(groups, now))
            return 0
        found = await letter_rows.find(desk.connection, which, limit=limit, before_id=before or MAX_ID)
        if json:
            print_json({"letters": [letter_json.of_letter(letter) for letter in found]})
            return 0
        desk.console.table(letter_screen.LIST, letter_screen.letters(found, now))
        if len(found) == limit:
            desk.console.say(f"There may be more: --before {found[-1].id}")
        return 0

    run(ask, first=chosen.check)


@app.command()
def show(letter_id: Annotated[int, typer.Argument(metavar="ID")], *, json: Json = False) -> None:
    """One letter with its bytes, and what happened to it."""
    from streams.letter_filter import LetterFilter

    async def ask(desk: Desk) -> int:
        from contracts.errors import QueryError
        from headrace import letter_screen
        from headrace.console import print_json
        from streams import letter_json, letter_rows

        moves = await letter_rows.history(desk.connection, letter_id)
        found = await letter_rows.one(desk.connection, letter_id)
        if found is None and not moves:
            raise QueryError("ID", "must be that of a letter", letter_id)
        if json:
            letter = None if found is None else letter_json.of_letter(found[0]) | letter_json.of_content(found[1])
            print_json({"letter": letter, "history": [letter_json.of_move(move) for move in moves]})
            return 0
        if found is None:
            desk.console.say(f"letter {letter_id} was purged", strong=True)
        else:
            desk.console.table(("", ""), letter_screen.details(found[0]))
            desk.console.table(("header", "value"), letter_screen.headers(found[1]))
            desk.console.say(letter_screen.payload(found[1]))
        desk.console.table(letter_screen.HISTORY, letter_screen.history(moves))
        return 0

    # Refuses a number that no letter can have.
    run(ask, first=lambda _settings, _clock: LetterFilter(ids=(letter_id,)))


@app.command()
@with_filter
def requeue(
    *,
    chosen: Chosen,
    why: Why,
    every: Every = False,
    limit: Most = None,
    rate: Annotated[float | None, typer.Option(help="Letters a second; control.requeue_rate_per_s.", min=0.01)] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it to its end. Status 1 when letters died again.")
    ] = False,
    json: Json = False,
) -> None:
    """Send dead letters again, each to the consumer that failed and to no other. Asking twice has one effect."""

    async def ask(desk: Desk) -> int:
        from headrace.console import Console, print_json
        from streams import letter_moves

        which = meant(chosen.filter(desk.clock), every=every)
        order = order_of(desk.settings, why, limit)
        rate_per_s = rate or desk.settings.control.requeue_rate_per_s
        asked = await letter_moves.requeue(desk.connection, which, order, rate_per_s=rate_per_s)
        stuck = await letter_moves.not_taken_back(desk.connection, which)
        if json:
            print_json({"requeue_id": asked and asked.requeue_id, "letters": asked.letters if asked else 0})
            desk = replace(desk, console=Console(desk.clock, to_stderr=True))
        elif asked:
            desk.console.say(f"requeue {asked.requeue_id}: {asked.letters:,} letters")
        else:
            desk.console.say("nothing is requeued" if stuck else "no letter of these is dead")
        if stuck:
            desk.console.warn(f"dead letters of {', '.join(stuck)} stay: no consumer takes them back")
        if asked is None:
            return 0
        await _warn_without_requeuer(desk)
        return await _follow(desk, asked.requeue_id) if wait else 0

    run(ask, first=move_check(chosen, why, limit, every=every))


def _take_away(
    move: Callable[[Connection, LetterFilter, Order], Awaitable[list[int]]],
    done: str,
    chosen: Chosen,
    *,
    why: str,
    every: bool,
    limit: int | None,
) -> None:
    async def ask(desk: Desk) -> int:
        which = meant(chosen.filter(desk.clock), every=every)
        gone = await move(desk.connection, which, order_of(desk.settings, why, limit))
        desk.console.say(f"{len(gone):,} letters {done}")
        return 0

    run(ask, first=move_check(chosen, why, limit, every=every))


@app.command()
@with_filter
def discard(*, chosen: Chosen, why: Why, every: Every = False, limit: Most = None) -> None:
    """Give dead letters up for good. They stay readable until they are purged."""
    from streams import letter_moves

    _take_away(letter_moves.discard, "discarded", chosen, why=why, every=every, limit=limit)


@app.command()
@with_filter
def purge(*, chosen: Chosen, why: Why, every: Every = False, limit: Most = None) -> None:
    """Delete letters that were recovered or discarded, bytes and all. The audit stays."""
    from streams import letter_moves

    _take_away(letter_moves.purge, "purged", chosen, why=why, every=every, limit=limit)


@app.command()
def cancel(requeue_id: Annotated[int, typer.Argument(metavar="REQUEUE")], *, why: Why) -> None:
    """Stop a requeue: letters that have not left are dead again."""
    from streams.letter_filter import LetterFilter

    def check(settings: Settings, _clock: Clock) -> None:
        LetterFilter(requeue_id=requeue_id)  # refuses a number that no requeue can have
        order_of(settings, why, 1)

    async def ask(desk: Desk) -> int:
        from contracts.errors import QueryError
        from streams import letter_moves, letter_rows

        if await letter_rows.requeue(desk.connection, requeue_id) is None:
            raise QueryError("REQUEUE", "must be the number of a requeue", requeue_id)
        back = await letter_moves.cancel(desk.connection, requeue_id, order_of(desk.settings, why, 1))
        desk.console.say(f"{back:,} letters had not left, and are dead again")
        return 0

    run(ask, first=check)


def meant(which: LetterFilter, *, every: bool) -> LetterFilter:
    """The filter. Raises QueryError when it means all letters and nobody said so."""
    from contracts.errors import QueryError

    if not which.names_letters and not every:
        raise QueryError("which letters", "give ids or a filter, or --all", "nothing")
    return which


def order_of(settings: Settings, why: str, limit: int | None) -> Order:
    """Who asks for it, why, and for how many letters at most."""
    from streams.letter_moves import Order

    return Order(who(), why, limit or settings.control.requeue_letters)


def move_check(
    chosen: Chosen, why: str, limit: int | None, *, every: bool
) -> Callable[[Settings, Clock], tuple[LetterFilter, Order]]:
    """What `run` is to check first of a move."""
    return lambda settings, clock: (meant(chosen.filter(clock), every=every), order_of(settings, why, limit))


async def _warn_without_requeuer(desk: Desk) -> None:
    from streams import letter_rows

    if not await letter_rows.requeuer_runs(desk.connection):
        desk.console.warn("no control process runs: the letters leave once one does (`headrace control`)")


async def _follow(desk: Desk, requeue_id: int) -> int:
    from headrace import letter_screen
    from streams import letter_rows

    with desk.console.replaced() as shown:
        while True:
            found = await letter_rows.requeue(desk.connection, requeue_id)
            if found is None:
                return 1
            shown("", letter_screen.REQUEUES, letter_screen.requeues([found], desk.clock.now()))
            if found.outcome is not None:
                return 0 if found.outcome == "done" and not found.died else 1
            await asyncio.sleep(FOLLOW_S)
