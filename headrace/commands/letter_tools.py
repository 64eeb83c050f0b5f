"""More of `headrace dead-letters`: watching, exporting, and what is needed after something was lost."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from headrace.commands.dead_letters import Every, Json, Most, Why, app, meant, move_check, order_of
from headrace.commands.desk import Desk, run
from headrace.commands.letter_options import Chosen, with_filter

if TYPE_CHECKING:
    from streams.letter_filter import LetterFilter

__all__ = ["app"]

SHOWN_REQUEUES = 10
SHOWN_UNREADABLE = 5


@app.command()
@with_filter
def watch(
    *,
    chosen: Chosen,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2, max=3600)] = 2.0,
    count: Annotated[int | None, typer.Option(help="End after so many looks; else with Ctrl-C.", min=1)] = None,
) -> None:
    """Dead letters counted by source and reason, again and again, with the requeues that run."""

    async def ask(desk: Desk) -> int:
        from headrace import letter_screen
        from streams import letter_rows

        states = chosen.state or ["dead", "requeued"]
        looks = 0
        with desk.console.replaced() as shown:
            while True:
                which, now = replace(chosen, state=states).filter(desk.clock), desk.clock.now()
                rows = letter_screen.groups(await letter_rows.summary(desk.connection, which), now)
                running = await letter_rows.requeues(desk.connection, limit=SHOWN_REQUEUES, only_open=True)
                told = "; ".join(letter_screen.progress(one) for one in running) or "no requeue runs"
                shown(f"{now:%H:%M:%S} UTC, {told}", letter_screen.GROUPS, rows)
                looks += 1
                if looks == count:
                    return 0
                await asyncio.sleep(every)

    run(ask, first=chosen.check)


@app.command()
def requeues(
    *,
    limit: Annotated[int, typer.Option(help="Most requeues.", min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """The last requeues: who, why, and what became of the letters."""

    async def ask(desk: Desk) -> int:
        from headrace import letter_screen
        from headrace.console import print_json
        from streams import letter_json, letter_rows

        found = await letter_rows.requeues(desk.connection, limit=limit)
        if json:
            print_json({"requeues": [letter_json.of_requeue(one) for one in found]})
        else:
            desk.console.table(letter_screen.REQUEUES, letter_screen.requeues(found, desk.clock.now()))
        return 0

    run(ask)


@app.command()
def history(
    *,
    actor: Annotated[str | None, typer.Option(help="Only what this one did: a name, `rules`, or a process.")] = None,
    limit: Annotated[int, typer.Option(help="Most lines.", min=1, max=10_000)] = 50,
    json: Json = False,
) -> None:
    """Who moved which letter, when and why, newest first; also of letters that were purged."""

    async def ask(desk: Desk) -> int:
        from headrace import letter_screen
        from headrace.console import print_json
        from streams import letter_json, letter_rows

        found = await letter_rows.moves(desk.connection, limit=limit, actor=actor)
        if json:
            lines = [{"id": n, "letter": letter, **letter_json.of_move(move)} for n, letter, move in found]
            print_json({"history": lines})
            return 0
        rows = letter_screen.history([move for _n, _letter, move in found])
        told = [(str(letter), *row) for (_n, letter, _move), row in zip(found, rows, strict=True)]
        desk.console.table(("letter", *letter_screen.HISTORY), told)
        return 0

    run(ask)


@app.command()
@with_filter
def export(
    *,
    chosen: Chosen,
    to: Annotated[Path | None, typer.Option(help="File to write; standard output without it.")] = None,
) -> None:
    """Letters with all their bytes, one JSON object a line, in order of id."""

    async def ask(desk: Desk) -> int:
        which = chosen.filter(desk.clock)
        if to is None:
            await _write(desk, which, sys.stdout, "standard output")
            return 0
        partial = to.with_name(f"{to.name}.partial")
        with _writing(to):
            file = partial.open("w", encoding="utf-8")
        try:
            count = await _write(desk, which, file, to)
        finally:
            with _writing(to):
                file.close()
        with _writing(to):
            partial.replace(to)  # whole or not at all
        desk.console.say(f"{count:,} letters in {to}")
        return 0

    run(ask, first=chosen.check)


@app.command()
@with_filter
def reclaim(
    *,
    chosen: Chosen,
    why: Why,
    hours: Annotated[
        float, typer.Option(help="Only letters that left at least so long ago.", min=0.01, max=8760)
    ] = 1.0,
    every: Every = False,
    limit: Most = None,
) -> None:
    """Take requeued letters back to dead of which nothing was heard.

    Only when they are lost: the retry topic was deleted, or the consumer is gone. A consumer that is merely slow may
    still take them in, and requeued once more they would count twice.
    """

    async def ask(desk: Desk) -> int:
        from streams import letter_moves

        which, order = meant(chosen.filter(desk.clock), every=every), order_of(desk.settings, why, limit)
        before = desk.clock.now() - timedelta(hours=hours)
        back = await letter_moves.reclaim(desk.connection, which, order, sent_before=before)
        desk.console.say(f"{len(back):,} letters are dead again")
        return 0

    run(ask, first=move_check(chosen, why, limit, every=every))


async def _write(desk: Desk, which: LetterFilter, file: TextIO, to: Path | str) -> int:
    from streams import letter_json, letter_rows

    count = 0
    async for letter, content in letter_rows.every(desk.connection, which):
        line = json.dumps(letter_json.of_letter(letter) | letter_json.of_content(content))
        with _writing(to):
            file.write(f"{line}\n")
        count += 1
    return count


@contextmanager
def _writing(to: Path | str) -> Iterator[None]:
    """Name the file that cannot be written: elsewhere here, an OSError is PostgreSQL's."""
    from contracts.errors import SettingsError

    try:
        yield
    except OSError as error:
        raise SettingsError(f"--to: {to} cannot be written: {error.strerror or error}") from error


@app.command("import-ragline")
def import_ragline(
    *,
    prefix: Annotated[str, typer.Option(help="First part of its Redis keys.")] = "ragline",
    redis_url: Annotated[str | None, typer.Option(help="Its Redis; redis.url.")] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take entries out of Redis once they are letters, or left to the relay.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> None:
    """Take over the dead letters that a RAGline deployment keeps in Redis lists. Run again, it changes nothing.

    Stop its own consumer and its reprocessing first. Status 1 when entries could not be read; they stay in Redis.
    """

    async def ask(desk: Desk) -> int:
        from streams import ragline_letters
        from streams.redis_log import RedisLog

        where = desk.settings.redis.model_copy(update={"url": redis_url} if redis_url else {})
        redis, of = RedisLog(where, prefix, client_name="headrace-import"), desk.settings.postgres
        try:
            done = await ragline_letters.take_over(redis, desk.connection, of, prefix, remove=remove, dry_run=dry_run)
        finally:
            await redis.close()
        desk.console.say(f"{done.added:,} letters added, {done.known:,} were known or would be added")
        desk.console.say(f"{done.waiting:,} rows still wait in the outbox: the relay publishes them")
        desk.console.say(f"{done.gone_rows:,} rows are gone from the outbox: their letters cannot be requeued")
        desk.console.say(f"{done.removed:,} entries removed from Redis")
        for found in done.unreadable[:SHOWN_UNREADABLE]:
            desk.console.warn(
                f"cannot be read, left in {found.key}: {found.raw[:200].decode(errors='backslashreplace')}"
            )
        if done.unreadable:
            desk.console.warn(f"{len(done.unreadable):,} entries could not be read")
        return 1 if done.unreadable else 0

    run(ask)
