"""`headrace replay`: windows of a table, recomputed from its source topic."""

from __future__ import annotations

import asyncio
import os
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands import times
from headrace.commands.reported import reported

if TYPE_CHECKING:
    from headrace.replay.options import ReplayOptions
    from headrace.replay.report import Report
    from runtime.clock import Clock
    from runtime.settings import Settings

NICER = 10
"""Added to the process's niceness: a live worker on the same machine goes first."""

Table = Annotated[str, typer.Argument(help="The table's name, such as tool_latency.")]
From = Annotated[str, typer.Option("--from", help=f"Windows that begin here or later, by event time: {times.HELP}")]
To = Annotated[str, typer.Option("--to", help="Windows that end here or earlier; the same forms.")]
Tenant = Annotated[str | None, typer.Option(help="Only windows of this tenant.")]
Rate = Annotated[float | None, typer.Option(help="Records read a second at most. As fast as they come.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Also replace windows that would hold less than now.")]
FromArchive = Annotated[Path | None, typer.Option(help="Folder of `headrace archive`, read before the topic.")]
State = Annotated[Path, typer.Option(help="Folder for what a kill must not cost.")]
Json = Annotated[bool, typer.Option("--json", help="Report as one JSON object on standard output.")]


def replay(  # noqa: PLR0913 - one argument an option
    table: Table,
    *,
    from_: From,
    to: To,
    tenant: Tenant = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    force: Force = False,
    from_archive: FromArchive = None,
    state: State = Path(".headrace/replay"),
    json: Json = False,
) -> None:
    """Recompute a table's windows between two times and send them to the workers that own the rows.

    Run again after a kill, it goes on. A window that would hold less than now is left alone unless forced.
    """
    # Before anything else: importing takes a second of a processor.
    with suppress(OSError):
        os.nice(NICER)
    from contracts.names import TenantId
    from headrace.replay.options import ReplayOptions
    from runtime.clock import SystemClock
    from runtime.settings import load
    from tables.recompute import TimeRange

    def made() -> int:
        settings, clock = load(), SystemClock()
        options = ReplayOptions(
            table=table,
            asked=TimeRange(times.instant_ms(from_, "--from", clock), times.instant_ms(to, "--to", clock)),
            tenant_id=None if tenant is None else TenantId(tenant),
            rate_per_s=rate,
            dry_run=dry_run,
            force=force,
            archive=from_archive,
            state=state,
            json_output=json,
        )
        return run(settings, clock, options)

    raise typer.Exit(reported(made))


def run(settings: Settings, clock: Clock, options: ReplayOptions) -> int:
    """Replay and report; the exit status is 1 when windows were left as they are, else 0."""
    from headrace.commands.archive import writing_alone
    from headrace.replay.options import lengths_of, table_of
    from headrace.replay.progress import Steps
    from headrace.replay.run import Replay
    from runtime import allocator, collector
    from tables.windows import rules_of

    allocator.keep_memory()
    collector.tune()
    rules = rules_of(lengths_of(settings, table_of(settings, options.table)), settings.worker)
    with nullcontext() if options.dry_run else writing_alone(options.state / options.table):
        report = asyncio.run(Replay(settings, clock, options, rules).run(Steps(clock)))
    _show(report, clock, options)
    return 0 if options.dry_run or not (report.refused or report.unsettled) else 1


def _show(report: Report, clock: Clock, options: ReplayOptions) -> None:
    from headrace.console import Console, print_json

    console = Console(clock, to_stderr=options.json_output)
    lines = list(report.lines())
    if lines:
        console.table(("window", "tenant", "subject", "change", "values"), lines)
    console.say(report.summary())
    console.say(report.outcome())
    if report.refused and not options.dry_run:
        console.warn(
            f"{report.refused:,} windows would hold less than now and were left as they are; "
            "see docs/playbooks/replay.md before you use --force"
        )
    if options.json_output:
        print_json(report.json())
