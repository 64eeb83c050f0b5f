"""`headrace topics`: do they have partitions enough, and more of them."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.reported import reported

if TYPE_CHECKING:
    from headrace.growth_plan import Plan, TableSize, TopicLoad
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.growth import GrowthLog

HOUR_S = 3600.0
SHORTEST_S = 60.0
SAMPLE_RECORDS = 200
HEADERS = ("topic", "records/s, busiest hour", "busiest partition / mean", "bytes a record", "waiting")

app = typer.Typer(help="Partitions: whether there are enough, and more of them.", no_args_is_help=True)

Capacity = Annotated[float | None, typer.Option(help="Records a second that one worker is to take.", min=1)]
Growth = Annotated[float, typer.Option(help="Plan for this many times the load that was measured.", min=1, max=1000)]
Hours = Annotated[int, typer.Option(help="How many hours back the busiest one is looked for.", min=1, max=168)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Partitions = Annotated[int, typer.Option(help="Partitions of each topic from then on; a multiple moves fewer keys.")]


@app.command()
def plan(*, hours: Hours = 24, capacity: Capacity = None, growth: Growth = 2.0, json: Json = False) -> None:
    """Say whether the topics need more partitions, and how many, with the arithmetic."""
    from headrace.growth_plan import CAPACITY_PER_S
    from runtime.clock import SystemClock
    from runtime.settings import load

    def made() -> int:
        asyncio.run(_plan(load(), SystemClock(), hours, capacity or CAPACITY_PER_S, growth, json=json))
        return 0

    raise typer.Exit(reported(made))


@app.command()
def grow(*, partitions: Partitions) -> None:
    """Give every topic more partitions, and move the tables' rows with their keys.

    Workers, mirrors and control processes must be stopped.

    Refused, with the reason, when one runs or something is left to fold. Run again after a kill, it goes on.
    """
    from runtime.clock import SystemClock
    from runtime.settings import load

    raise typer.Exit(reported(lambda: asyncio.run(_grow(load(), SystemClock(), partitions))))


async def _grow(settings: Settings, clock: Clock, to: int) -> int:
    from headrace.console import Console
    from headrace.growing import Growing
    from streams.growth import GrowthLog
    from streams.kafka_outlet import Outlet
    from streams.kafka_producer import Producer
    from streams.redis_log import RedisLog

    async with AsyncExitStack() as stack:
        log, outlet, producer = GrowthLog(settings.kafka), Outlet(settings.kafka, clock), Producer(settings.kafka)
        redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-topics")
        for client in (log, outlet, producer):
            stack.push_async_callback(client.stop)
        await log.start()
        await producer.start()
        stack.push_async_callback(redis.close)
        console = stack.enter_context(Console(clock))
        await Growing(settings, log, outlet, producer, redis, clock, console.say).run(to)
        console.say(f"done: start the processes with HEADRACE_KAFKA__PARTITIONS={to}, the gateways first", strong=True)
    return 0


async def _plan(
    settings: Settings, clock: Clock, hours: int, capacity_per_s: float, growth: float, *, json: bool
) -> Plan:
    from headrace import growth_plan
    from headrace.console import Console, print_json
    from streams.growth import GrowthLog

    log = GrowthLog(settings.kafka)
    await log.start()
    try:
        loads, sizes, partitions = await _measured(settings, log, int(1000 * clock.wall_s()), hours)
    finally:
        await log.stop()
    made = growth_plan.plan(partitions, loads, sizes, capacity_per_s=capacity_per_s, growth=growth)
    if json:
        topics = [asdict(load) | {"per_s": load.per_s, "skew": load.skew} for load in loads]
        print_json(asdict(made) | {"grow": made.grow, "topics": topics, "tables": [asdict(size) for size in sizes]})
        return made
    with Console(clock) as console:
        console.table(HEADERS, _rows(loads))
        for line in made.why:
            console.say(line)
    return made


def _rows(loads: list[TopicLoad]) -> list[tuple[str, ...]]:
    return [
        (load.topic, f"{load.per_s:,.1f}", f"{load.skew:.1f}", f"{load.record_bytes:,.0f}", f"{load.waiting:,}")
        for load in loads
    ]


async def _measured(
    settings: Settings, log: GrowthLog, now_ms: int, hours: int
) -> tuple[list[TopicLoad], list[TableSize], int]:
    from contracts.errors import SettingsError
    from contracts.names import Stream, kafka_topic, topic_of
    from headrace.growing import tables_of
    from headrace.growth_plan import TableSize
    from streams.kafka_log import Partition

    known = await log.topics()
    names = [kafka_topic(settings.prefix, topic_of(stream)) for stream in Stream]
    names = [name for name in names if name in known]
    if not names:
        raise SettingsError(f"no topic of prefix {settings.prefix} exists: nothing to plan for")
    loads = [await _load(settings, log, name, known[name], now_ms, hours) for name in names]
    sizes = []
    for table in tables_of(settings):
        places = [Partition(table.changelog, n) for n in range(known.get(table.changelog, 0))]
        if places:
            spans = await log.spans(places)
            sizes.append(TableSize(table.changelog, max(span.end - span.begin for span in spans.values())))
    return loads, sizes, max(known[name] for name in names)


async def _load(settings: Settings, log: GrowthLog, topic: str, partitions: int, now_ms: int, hours: int) -> TopicLoad:
    """The busiest hour of the last ones; of a log that is younger than an hour, all that there is."""
    from headrace.growth_plan import TopicLoad
    from streams.kafka_log import Partition

    places = [Partition(topic, number) for number in range(partitions)]
    spans = await log.spans(places)
    firsts_ms = [await log.timestamp_at(place, span.begin) for place, span in spans.items() if span.begin < span.end]
    young_s = (now_ms - min(firsts_ms)) / 1000 if firsts_ms else HOUR_S
    hour_s = min(HOUR_S, max(SHORTEST_S, young_s))
    begins_ms = [now_ms - int(1000 * HOUR_S) * back for back in range(hours, 0, -1)]
    marks = [[await log.offset_at(place, at_ms, spans[place]) for place in places] for at_ms in begins_ms]
    marks.append([spans[place].end for place in places])
    hourly = [tuple((b - a) / hour_s for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(marks)]
    sample = [record for place in places for record in await log.read_tail(place, SAMPLE_RECORDS // partitions + 1)]
    sizes = [len(record.key or b"") + len(record.value or b"") for record in sample]
    waiting = await log.uncommitted(settings.worker.group, {place: spans[place].end for place in places})
    return TopicLoad(topic, max(hourly, key=sum), sum(sizes) / len(sizes) if sizes else 0.0, sum(waiting.values()))
