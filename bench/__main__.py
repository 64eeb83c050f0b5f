"""`make bench ARGS="engine --json"`: see docs/benchmarks.md for what each command measures."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable

from bench import lineup, report
from bench.broker import APACHE, EMBEDDED, Broker, running
from bench.cores import Cores, pin_this_process, shared_out
from bench.engine import engine
from bench.latency import Line, latency
from bench.lineup import HEADRACE
from bench.rebalance import rebalance
from bench.replay import replay
from bench.scale import KEYS, scale
from contracts.errors import ServerMissing

EVENTS = 5_000_000
STORES = ("rocksdb", "memory")

Measurement = Callable[[argparse.Namespace, Broker, Cores], Awaitable[list[Line]]]


def main() -> int:
    """0 when every answer was right."""
    if sys.argv[1:2] in (["recovery"], ["relay"], ["policies"], ["limits"], ["overload"]):
        return subprocess.call([sys.executable, "-m", f"bench.{sys.argv[1]}", *sys.argv[2:]])
    options = _parser().parse_args()
    try:
        return asyncio.run(_measured(options))
    except ServerMissing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3


async def _measured(options: argparse.Namespace) -> int:
    cores = shared_out()
    pin_this_process(cores)
    async with running(options.kafka) as broker:
        lines = await options.measure(options, broker, cores)
    if options.json:
        print(report.as_json(lines))
    if all(line["answer_ok"] for line in lines):
        shutil.rmtree(broker.folder)
        return 0
    print(f"bench: logs are in {broker.folder}", file=sys.stderr)
    return 1


async def _engine(options: argparse.Namespace, broker: Broker, cores: Cores) -> list[Line]:
    results = await engine(broker, lineup.chosen(options.only), options.events, cores)
    clock = "from the assignment of partitions to the last flush"
    report.print_table("tool-latency workload", results, [f"{broker.describe}; {cores.text}; clock: {clock}"])
    return [result.as_json() for result in results]


async def _latency(options: argparse.Namespace, broker: Broker, cores: Cores) -> list[Line]:
    lines = await latency(broker, options.store, options.rate, options.seconds, cores)
    report.print_lines("from send to visible row", lines, [f"{broker.describe}; {cores.text}"])
    return lines


async def _rebalance(options: argparse.Namespace, broker: Broker, cores: Cores) -> list[Line]:
    lines = await rebalance(broker, options.store, options.rate, cores)
    report.print_lines("pause of a partition's rows", lines, [f"{broker.describe}; 12 partitions; all cores shared"])
    return lines


async def _replay(options: argparse.Namespace, broker: Broker, cores: Cores) -> list[Line]:
    lines = await replay(broker, options.store, options.rate, options.events, cores)
    title = f"a replay of {options.events:,} events, and what a live feed sees of it"
    report.print_lines(title, lines, [f"{broker.describe}; {cores.text}; the replay on all cores"])
    return lines


async def _scale(options: argparse.Namespace, broker: Broker, cores: Cores) -> list[Line]:
    lines = await scale(broker, options.store, options.events, options.most_keys, cores)
    report.print_lines("throughput by rows and workers", lines, [f"{broker.describe}; {cores.text}"])
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Headrace measured beside its peers and its limits.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("engine", help="throughput of the engine, of its limits and its peers")
    _common(command, _engine)
    command.add_argument("--only", default="", metavar="NAME,...", help="these contenders alone")
    command.add_argument(
        "--events", type=int, default=EVENTS, help=f"events for the fast contenders, {EVENTS:,}; others take a part"
    )
    command = commands.add_parser("latency", help="from an event's send to its row's visibility")
    _common(command, _latency)
    _live(command, rate=1_000)
    command.add_argument("--seconds", type=float, default=30.0, help="how long, after the first three seconds; 30")
    command = commands.add_parser("rebalance", help="how long rows stand still when workers come and go")
    _common(command, _rebalance)
    _live(command, rate=2_000)
    command = commands.add_parser("replay", help="a replay's speed, and live latency before and during it")
    _common(command, _replay)
    _live(command, rate=1_000)
    command.add_argument("--events", type=int, default=1_000_000, help="events to replay, 1,000,000")
    command = commands.add_parser("scale", help="throughput by number of keys and workers")
    _common(command, _scale)
    _store(command)
    command.add_argument("--events", type=int, default=2_000_000, help="events of each run, 2,000,000")
    command.add_argument("--most-keys", type=int, default=KEYS[-1], help=f"leave out larger ones, {KEYS[-1]:,}")
    commands.add_parser("relay", help="a relay's drain and latency, also beside a paused tenant; see relay --help")
    commands.add_parser("policies", help="breakers and retries beside others; its own options: policies --help")
    commands.add_parser("recovery", help="time until restored rows are ready; its own options: recovery --help")
    return parser


def _common(command: argparse.ArgumentParser, measure: Measurement) -> None:
    command.set_defaults(measure=measure)
    command.add_argument(
        "--kafka", default=EMBEDDED, help=f"{EMBEDDED} (default), {APACHE} (after `make kafka`), or host:port"
    )
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _live(command: argparse.ArgumentParser, *, rate: float) -> None:
    _store(command)
    command.add_argument("--rate", type=float, default=rate, help=f"events a second, {rate:,}")


def _store(command: argparse.ArgumentParser) -> None:
    command.add_argument("--store", choices=STORES, default=STORES[0], help=f"of {HEADRACE}*; {STORES[0]}")


if __name__ == "__main__":
    raise SystemExit(main())
