"""The command line: `headrace COMMAND`, the same as `python -m headrace COMMAND`. The only importer of typer.

Each command imports its own part when it is called, so that `headrace --help` answers at once. Exit status: 0 done,
1 a fault was found or something failed, 2 bad settings or options, 3 a server is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands import breakers, degradation, letter_tools, outbox, tables, tenants, topics
from headrace.commands.archive import archive
from headrace.commands.replay import replay
from headrace.commands.reported import reported

app = typer.Typer(
    name="headrace",
    help="From a committed outbox row to a live page.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def relay() -> None:
    """Move committed outbox rows to Redis Streams."""
    from headrace import wiring

    raise typer.Exit(wiring.relay())


@app.command()
def mirror() -> None:
    """Move Redis Streams to Kafka topics."""
    from headrace import wiring

    raise typer.Exit(wiring.mirror())


@app.command()
def gateway() -> None:
    """Serve clients: live streams, tables, the page."""
    from headrace import wiring

    raise typer.Exit(wiring.gateway())


@app.command()
def control() -> None:
    """Serve operators: dead letters and what else they move; send what is requeued."""
    from headrace import wiring

    raise typer.Exit(wiring.control())


@app.command()
def migrate() -> None:
    """Bring the schema `headrace` in PostgreSQL up to date. The outbox is never touched."""
    from headrace import wiring

    raise typer.Exit(wiring.migrate())


DataDir = Annotated[Path, typer.Option(help="Where servers, state and logs of this run are kept.")]
Duration = Annotated[float | None, typer.Option(help="Seconds of traffic; then compare, report and end.", min=1)]
KILL_HELP = "Fault injection: SIGKILL relay, mirror, worker[-N], gateway or control. NAME:SECONDS[:wipe]; repeatable."
Kills = Annotated[list[str] | None, typer.Option(help=KILL_HELP)]


@app.command()
def dev(  # noqa: PLR0913 - one argument an option
    *,
    data_dir: DataDir = Path(".headrace"),
    port: Annotated[int | None, typer.Option(help="Port of the page.", min=1, max=65_535)] = None,
    workers: Annotated[int, typer.Option(help="How many workers share the stream.", min=1, max=16)] = 1,
    traffic: Annotated[bool, typer.Option(help="Run the sample shop.")] = True,
    rate: Annotated[float, typer.Option(help="Events a second of the sample shop.", min=0.1, max=5000)] = 20.0,
    duration: Duration = None,
    json: Annotated[bool, typer.Option("--json", help="Report as one JSON object on standard output.")] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    postgres_url: Annotated[str | None, typer.Option(help="A PostgreSQL of your own.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="A Redis or Valkey of your own.")] = None,
    kafka: Annotated[str, typer.Option(help="embedded, apache (after `make kafka`), or HOST:PORT.")] = "embedded",
    kill: Kills = None,
) -> None:
    """Run everything on this machine, with sample traffic, and print the page's address."""
    from headrace import dev as command
    from headrace.devkit.options import DevOptions, parse_kill

    def made() -> int:
        options = DevOptions(
            data_dir=data_dir.absolute(),
            postgres_url=postgres_url,
            redis_url=redis_url,
            kafka=kafka,
            port=port,
            workers=workers,
            rate_per_s=rate,
            duration_s=duration,
            traffic=traffic,
            open_browser=open_page,
            json_output=json,
            kills=tuple(parse_kill(text) for text in kill or ()),
        )
        return command.run(options)

    raise typer.Exit(reported(made))


@app.command()
def doctor(
    *, json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False
) -> None:
    """Check every configured server and say what to do about each failure."""
    from headrace import doctor as command

    raise typer.Exit(reported(lambda: command.run(json_output=json)))


@app.command()
def settings(
    *, check: Annotated[bool, typer.Option("--check", help="Only check the settings given here.")] = False
) -> None:
    """Print the reference of all settings, or check those that are set."""
    from headrace import settings_page
    from runtime.settings import load

    def made() -> int:
        if check:
            load()
            typer.echo("settings are right")
        else:
            typer.echo(settings_page.page(), nl=False)
        return 0

    raise typer.Exit(reported(made))


@app.command()
def token(
    tenant: Annotated[str, typer.Argument(help="The tenant's id.")],
    channels: Annotated[
        list[str] | None, typer.Argument(help="Channels or patterns, such as orders:* or tools:search.")
    ] = None,
    *,
    hours: Annotated[float, typer.Option(help="Lifetime; cut to auth.max_age_s.", min=0.01)] = 1.0,
    subject: Annotated[
        str | None, typer.Option(help="Who the token is for; shows up in logs and audits. An operator's: you.")
    ] = None,
    operator: Annotated[bool, typer.Option("--operator", help="Also opens /v1/control/, for all tenants.")] = False,
) -> None:
    """Mint a token that lets a client listen to a tenant's channels, or an operator act."""
    from headrace.commands.desk import who
    from runtime import tokens
    from runtime.clock import SystemClock
    from runtime.settings import load

    def made() -> int:
        minted = tokens.mint(
            load().auth,
            SystemClock(),
            tenant_id=tenant,
            channels=tuple(channels or ()),
            subject=subject or (who() if operator else "cli"),
            lifetime_s=hours * 3600,
            operator=operator,
        )
        typer.echo(minted)
        return 0

    raise typer.Exit(reported(made))


@app.command()
def version() -> None:
    """Print the version."""
    from headrace.about import installed_version

    typer.echo(installed_version())


app.command()(archive)
app.command()(replay)
app.add_typer(breakers.app, name="breakers")
app.add_typer(degradation.app, name="degradation")
app.add_typer(letter_tools.app, name="dead-letters")
app.add_typer(outbox.app, name="outbox")
app.add_typer(tables.app, name="tables")
app.add_typer(tenants.app, name="tenants")
app.add_typer(topics.app, name="topics")


def main() -> None:
    """The console script's entry."""
    app()


if __name__ == "__main__":
    main()
