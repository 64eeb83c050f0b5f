"""`headrace tables`: what is in the workers' tables, on a terminal, as JSON, or in a file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import ServerMissing, SettingsError
from contracts.names import experiment_channel, rag_channel, tool_channel, voice_channel

if TYPE_CHECKING:
    from headrace.console import Show
    from headrace.table_client import TableClient
    from runtime.settings import Settings

CHANNELS = tuple(channel("*") for channel in (tool_channel, rag_channel, voice_channel, experiment_channel))
TOKEN_S = 3600.0
PAGE_ROWS = "10000"

app = typer.Typer(
    help="Ask the workers' tables: lists, statistics, exports.", no_args_is_help=True, pretty_exceptions_enable=False
)

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="Its name; `headrace tables list` has them.")]
Key = Annotated[list[str] | None, typer.Argument(metavar="PART", help="Parts of the key, such as a tool.")]
Url = Annotated[str | None, typer.Option(help="A worker or gateway. gateway.worker_urls, then the gateway itself.")]
Token = Annotated[str | None, typer.Option(help="A token; otherwise one is minted for --tenant with auth.secret.")]
Tenant = Annotated[str | None, typer.Option(help="The tenant to mint a token for.")]
From = Annotated[str, typer.Option("--from", help="Windows that end after this: -15m, or 2026-01-31T12:00:00Z.")]
To = Annotated[str, typer.Option("--to", help="Windows that begin before this.")]
Size = Annotated[str | None, typer.Option(help="Length of windows, a multiple of the table's: 1m, 1h.")]
Step = Annotated[str | None, typer.Option(help="Sliding windows: one each so often.")]
Limit = Annotated[int, typer.Option(help="Most rows.", min=1)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command("list")
def list_(*, url: Url = None, token: Token = None, tenant: Tenant = None, json: Json = False) -> None:
    """All tables: what they say, and how much of them the asked worker has."""

    async def ask(client: TableClient) -> int:
        from headrace import table_screen
        from headrace.console import print_json

        tables = await client.tables()
        if json:
            print_json({"tables": tables})
        else:
            _print(table_screen.index(tables))
        return 0

    _run(ask, url, token, tenant)


@app.command()
def show(  # noqa: PLR0913 - one argument an option
    table: TableName,
    key: Key = None,
    *,
    from_: From = "-15m",
    to: To = "now",
    size: Size = None,
    step: Step = None,
    limit: Limit = 1000,
    url: Url = None,
    token: Token = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Rows of a table: one line for each key, or all columns of one. Status 1 when rows may be missing."""

    async def ask(client: TableClient) -> int:
        from headrace import table_screen
        from headrace.console import print_json

        about = await client.table(table)
        answer = await client.rows(table, key or (), _params(about, from_, to, size, step, limit))
        if json:
            print_json(answer)
        else:
            _print(table_screen.rows(about, answer))
            together = table_screen.compared(answer)
            if together is not None:
                _print(together)
            _warn(table_screen.warning(answer))
        return 1 if answer["partial"] else 0

    _run(ask, url, token, tenant)


@app.command()
def watch(  # noqa: PLR0913 - one argument an option
    table: TableName,
    key: Key = None,
    *,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2, max=3600)] = 2.0,
    count: Annotated[int | None, typer.Option(help="End after so many looks; else with Ctrl-C.", min=1)] = None,
    from_: Annotated[str, typer.Option("--from", help="How far back, such as -15m.")] = "-15m",
    size: Size = None,
    step: Step = None,
    limit: Limit = 10_000,
    url: Url = None,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """The same as `show`, again and again. A worker that is away for a while does not end it."""

    async def ask(client: TableClient) -> int:
        about = await client.table(table)
        params = _params(about, from_, "now", size, step, limit)
        from headrace.console import Console
        from runtime.clock import SystemClock

        with Console(SystemClock()).replaced() as shown:
            looks = 0
            while True:
                await _look(client, about, key or [], params, shown)
                looks += 1
                if count is not None and looks >= count:
                    return 0
                await asyncio.sleep(every)

    _run(ask, url, token, tenant)


@app.command()
def export(  # noqa: PLR0913 - one argument an option
    table: TableName,
    key: Key = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.csv or FILE.jsonl; appears when complete.")],
    partial: Annotated[bool, typer.Option(help="Write also when rows may be missing.")] = False,
    from_: From = "-15m",
    to: To = "now",
    size: Size = None,
    step: Step = None,
    url: Url = None,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """All rows of a time range into a file, CSV or JSON lines, page by page. Status 1 when rows may be missing."""

    async def ask(client: TableClient) -> int:
        from headrace.table_export import write

        about = await client.table(table)
        params = _params(about, from_, to, size, step, int(PAGE_ROWS))
        written, missing = await write(client.pages(table, key or (), params), output, partial=partial)
        _warn(missing)
        if not missing or partial:
            sys.stderr.write(f"{written:,} rows in {output}\n")
        return 1 if missing else 0

    _run(ask, url, token, tenant)


async def _look(
    client: TableClient, about: dict[str, Any], key: list[str], params: dict[str, str], shown: Show
) -> None:
    from headrace import table_screen

    try:
        answer = await client.rows(about["name"], key, params)
    except ServerMissing as error:
        shown(str(error), [], [])
        return
    screen = table_screen.rows(about, answer)
    warning = table_screen.warning(answer)
    shown(f"{screen.title}. {warning}" if warning else screen.title, screen.headers, screen.rows)


def _run(
    ask: Callable[[TableClient], Coroutine[Any, Any, int]], url: str | None, token: str | None, tenant: str | None
) -> None:
    from headrace.commands.reported import reported
    from runtime.settings import load

    async def main(settings: Settings) -> int:
        from headrace.table_client import TableClient

        async with TableClient(_doors(settings, url), token or _minted(settings, tenant)) as client:
            return await ask(client)

    def made() -> int:
        settings = load()
        with suppress(KeyboardInterrupt):  # how `watch` ends
            return asyncio.run(main(settings))
        return 0

    raise typer.Exit(reported(made))


def _doors(settings: Settings, url: str | None) -> list[Any]:
    from headrace.table_client import GATEWAY_ROOT, WORKER_ROOT, Door, doors_of

    if url is not None:
        return list(doors_of(url))
    gateway = f"http://{settings.gateway.host}:{settings.gateway.port}"
    return [*(Door(at.rstrip("/"), WORKER_ROOT) for at in settings.gateway.worker_urls), Door(gateway, GATEWAY_ROOT)]


def _minted(settings: Settings, tenant: str | None) -> str:
    from runtime import tokens
    from runtime.clock import SystemClock

    if tenant is None:
        raise SettingsError("--tenant: needed, to mint a token for it (or give --token)")
    return tokens.mint(
        settings.auth, SystemClock(), tenant_id=tenant, channels=CHANNELS, subject="cli", lifetime_s=TOKEN_S
    )


def _params(
    about: Mapping[str, Any], from_: str, to: str, size: str | None, step: str | None, limit: int
) -> dict[str, str]:
    params = {"limit": str(limit)}
    if about["window"] is None:
        return params
    params |= {"from": from_, "to": to}
    return params | {name: value for name, value in (("size", size), ("step", step)) if value is not None}


def _print(screen: Any) -> None:  # noqa: ANN401 - a Screen, which only a command that runs imports
    from headrace.console import Console
    from runtime.clock import SystemClock

    with Console(SystemClock()).replaced() as shown:
        shown(screen.title, screen.headers, screen.rows)


def _warn(text: str) -> None:
    if text:
        sys.stderr.write(f"headrace: {text}\n")
