"""`make bench ARGS="engine --json"`: see docs/benchmarks.md for what each command measures."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys

from bench import lineup, report
from bench.broker import APACHE, EMBEDDED, running
from bench.cores import pin_this_process, shared_out
from bench.engine import engine
from contracts.errors import ServerMissing

EVENTS = 5_000_000


def main() -> int:
    """0 when every answer was right."""
    options = _parser().parse_args()
    try:
        return int(asyncio.run(options.run(options)))
    except ServerMissing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3


async def _engine(options: argparse.Namespace) -> int:
    contenders, cores = lineup.chosen(options.only), shared_out()
    pin_this_process(cores)
    async with running(options.kafka) as broker:
        results = await engine(broker, contenders, options.events, cores)
        notes = [f"{broker.describe}; {cores.text}; events/s from the partitions' assignment to the last flush"]
    report.print_table("tool-latency workload", results, notes)
    if options.json:
        print(report.as_json(results))
    if all(result.answer_ok for result in results):
        shutil.rmtree(broker.folder)
        return 0
    print(f"bench: logs are in {broker.folder}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Headrace measured beside its peers and its limits.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("engine", help="throughput of the state engine, of its limits and its peers")
    command.set_defaults(run=_engine)
    command.add_argument("--only", default="", metavar="NAME,...", help="these contenders alone")
    command.add_argument(
        "--events", type=int, default=EVENTS, help=f"events for the fast contenders, {EVENTS:,}; others take a part"
    )
    _common(command)
    return parser


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--kafka", default=EMBEDDED, help=f"{EMBEDDED} (default), {APACHE} (after `make kafka`), or host:port"
    )
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")


if __name__ == "__main__":
    raise SystemExit(main())
