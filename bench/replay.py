"""`bench replay`: a backlog behind the worker's offsets made into rows by `headrace replay`, beside a steady live feed.

1. The workload, in the past, goes into the topic, and the worker's group commits behind it: no worker ever counts it.
2. The worker starts, and the feed.
3. `headrace replay --dry-run`, then `headrace replay`, each a process of its own that is started as an operator would.
   The clock runs from its start to its end, with everything that it does in between. Before each the feed is measured
   alone, and that is what a ratio is of: the embedded broker's latency grows with what stands in its topics.
4. Every row, live and backfilled, is compared with the recount.
"""

from __future__ import annotations

import asyncio
import re
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench import load
from bench.broker import Broker
from bench.child import RunFailed, started
from bench.cores import Cores
from bench.engine import say
from bench.headrace_worker import SIGHTINGS, TABLE, WATCHED, Worker, topic_of
from bench.latency import READY_S, SETTLE_S, WARM_UP_S, Line, line_of
from bench.live import Feed, delays_to_rows, sightings
from bench.recount import check, recount
from bench.run import LOG_GAMMA
from bench.workload import PARTITIONS, Shape, Workload, start_for
from contracts.times import moment_of
from headrace.servers.process import die_with_parent
from runtime.settings import KafkaSettings
from streams.kafka_log import Cluster, Partition

GROUP = "bench-replay"
BEFORE_S = 10.0
# Between two steps, so that what one leaves behind is not counted with the next.
CALM_S = 3.0
REPLAY_S = 600.0
# What the command says of itself.
_READ = re.compile(r"^read: [\d,]+ records in ([\d.]+) s$", re.MULTILINE)
_SENT = re.compile(r"^send: [\d,]+ rows in ([\d.]+) s$", re.MULTILINE)
_REPLACED = re.compile(r"^([\d,]+) rows replaced", re.MULTILINE)


class Stretch(NamedTuple):
    """What happened between two monotonic times, and what is said of it."""

    name: str
    from_s: float
    to_s: float
    said: Mapping[str, object]


async def replay(broker: Broker, store: str, rate: float, events: int, cores: Cores) -> list[Line]:
    """Four lines: the live feed alone and during a dry run, alone and during a replay."""
    worker = Worker(broker.bootstrap, topic_of(GROUP), GROUP, store, broker.embedded)
    workload = Workload(events, start_for(events, Shape(), int(time.time() * 1000)))
    await load.load(broker.bootstrap, worker.topic, workload)
    await _commit_behind(worker)
    right = await asyncio.to_thread(recount, workload)
    say(f"replay: {events:,} events of {len(right):,} rows stand behind the offsets of the group")
    folder = broker.folder / GROUP
    noted = folder / "sightings"
    environment = worker.environment(folder / "data") | {SIGHTINGS: str(noted)}
    feed = Feed(broker.bootstrap, worker.topic, rate)
    with started(cores.command(WATCHED), environment, folder) as child:
        async with asyncio.timeout(READY_S):
            await child.ready(environment)
        command = Command(cores, workload, environment, folder)
        stretches = await _beside(feed, command)
        child.check()
        await child.end()
    verdict = check(right | feed.right(), await worker.rows(LOG_GAMMA))
    say(f"replay: {verdict.text}")
    return _lines(stretches, feed, noted, answer_ok=verdict.ok)


async def _commit_behind(worker: Worker) -> None:
    cluster = Cluster(KafkaSettings(bootstrap=worker.bootstrap))
    await cluster.start()
    try:
        places = [Partition(worker.topic, number) for number in range(PARTITIONS)]
        ends = await cluster.true_end_offsets(places)
    finally:
        await cluster.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=worker.bootstrap, group_id=worker.group, enable_auto_commit=False)
    await consumer.start()
    try:
        offsets = {TopicPartition(place.topic, place.number): end for place, end in ends.items()}
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    finally:
        await consumer.stop()


async def _beside(feed: Feed, command: Command) -> list[Stretch]:
    """The steps, one after the other, while the feed sends."""
    stop = asyncio.Event()
    feeding = asyncio.create_task(feed.send_until(stop))
    try:
        await asyncio.sleep(WARM_UP_S)
        stretches = []
        for more in (["--dry-run"], []):
            await asyncio.sleep(CALM_S)
            began_s = time.monotonic()
            await asyncio.sleep(BEFORE_S)
            stretches += [Stretch("live feed alone", began_s, time.monotonic(), {}), await command.run(more)]
    finally:
        stop.set()
        await feeding
    await asyncio.sleep(SETTLE_S)
    return stretches


@dataclass(frozen=True)
class Command:
    """`headrace replay` over all windows of the workload."""

    cores: Cores
    workload: Workload
    environment: Mapping[str, str]
    folder: Path

    async def run(self, more: list[str]) -> Stretch:
        """Run it with further options.

        Raises:
            RunFailed: its exit status is not 0.
        """
        start_ms = self.workload.start_ms
        from_, to = (moment_of(at_ms).isoformat() for at_ms in (start_ms, start_ms + self.workload.span_ms))
        asked = [TABLE, "--from", from_, "--to", to, "--state", str(self.folder / "state"), *more]
        # On any core: it is beside the worker as an operator's command is.
        argv = self.cores.command([sys.executable, "-P", "-m", "headrace", "replay", *asked], workers=2)
        pipe, cpu_s, began_s = asyncio.subprocess.PIPE, _cpu_of_children_s(), time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, preexec_fn=die_with_parent
        )
        async with asyncio.timeout(REPLAY_S):
            output, errors = await process.communicate()
        ended_s = time.monotonic()
        if process.returncode:
            raise RunFailed(f"headrace replay ended with status {process.returncode}: {errors.decode()[-600:]}")
        said = figures(
            self.workload.events, ended_s - began_s, _cpu_of_children_s() - cpu_s, errors.decode() + output.decode()
        )
        name = " ".join(["during headrace replay", *more])
        say(f"replay: {name}: {ended_s - began_s:.1f} s, {said}")
        return Stretch(name, began_s, ended_s, said)


def figures(events: int, took_s: float, cpu_s: float, shown: str) -> dict[str, object]:
    """What a run of the command came to; `shown` is all that it said."""
    read_s, send_s = (float(found[1]) if (found := step.search(shown)) else 0.0 for step in (_READ, _SENT))
    replaced = _REPLACED.search(shown)
    return {
        "replay_events_per_s": round(events / took_s),
        "read_s": read_s,
        "send_s": send_s,
        "other_s": round(took_s - read_s - send_s, 1),
        "cpu_s": round(cpu_s, 1),
        "rows_replaced": int(replaced[1].replace(",", "")) if replaced else 0,
    }


def _cpu_of_children_s() -> float:
    """Of those that have ended, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _lines(stretches: list[Stretch], feed: Feed, noted: Path, *, answer_ok: bool) -> list[Line]:
    delays = delays_to_rows(feed.sent, sightings(noted))
    lines = []
    for stretch in stretches:
        within = [
            delay_s
            for event, delay_s in zip(feed.sent, delays, strict=True)
            if stretch.from_s <= event.at_s < stretch.to_s
        ]
        lines.append(line_of(stretch.name, feed.rate, within, answer_ok=answer_ok))
    p95s_ms = [float(str(line["p95_ms"])) for line in lines]
    ratios = [round(p95s_ms[number] / p95s_ms[number - number % 2], 2) for number in range(len(lines))]
    nothing = dict.fromkeys(next(iter(stretch.said for stretch in stretches if stretch.said)))
    return [
        {**line, "p95_ratio": ratio, **(stretch.said or nothing)}
        for line, ratio, stretch in zip(lines, ratios, stretches, strict=True)
    ]
