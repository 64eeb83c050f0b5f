"""Kafka: what the broker can do, our topics with their partitions and retention, reading, the clock. Reads only."""

from __future__ import annotations

import asyncio

from contracts.errors import ServerMissing
from contracts.names import Topic, kafka_topic
from headrace.checks import kafka_wire
from headrace.checks.finding import MAX_SKEW_S, Notebook
from runtime.clock import Clock
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Partition

HOUR_MS = 3_600_000
RETENTION = "retention.ms"
ENDLESS = -1


async def examine(settings: Settings, notes: Notebook, clock: Clock) -> None:
    """Ask everything.

    Raises:
        ServerMissing: no broker answers.
    """
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        notes.ok("cluster", f"epoch {await cluster.epoch()}")
        await _abilities(settings, notes)
        existing = await cluster.topics()
        judge_partitions(settings, existing, notes)
        ours = [topic.name for topic in topics.wanted(settings) if topic.name in existing]
        await _retention(settings, ours, notes)
        if ours:
            await _newest(cluster, settings, existing, notes, clock)
    finally:
        await cluster.stop()


async def _abilities(settings: Settings, notes: Notebook) -> None:
    versions = await kafka_wire.api_versions(settings.kafka.bootstrap)
    asked = kafka_wire.INIT_PRODUCER_ID in versions
    idempotent = asked and await kafka_wire.idempotent_producers(settings.kafka.bootstrap)
    notes.judge(
        "api",
        good=idempotent or not settings.kafka.idempotence,
        found=f"{len(versions)} requests known, idempotent producers {'offered' if idempotent else 'not offered'}",
        remedy="set HEADRACE_KAFKA__IDEMPOTENCE=false, or use a broker that has them",
    )


def judge_partitions(settings: Settings, existing: dict[str, int], notes: Notebook) -> None:
    """Which topics are there, and whether topics that share a key have the same number of partitions."""
    wanted = [topic.name for topic in topics.wanted(settings)]
    missing = [name for name in wanted if name not in existing]
    if missing:
        notes.warn("topics", f"missing: {', '.join(missing)}", "mirror, worker or gateway make them when they start")
    else:
        notes.ok("topics", f"all {len(wanted)} are there")
    other = {
        name: existing[name]
        for name in wanted
        if existing.get(name, settings.kafka.partitions) != settings.kafka.partitions
    }
    if other:
        told = ", ".join(f"{name} has {count}" for name, count in other.items())
        notes.warn(
            "partitions",
            f"{told}, kafka.partitions is {settings.kafka.partitions}",
            "existing topics are never altered; set kafka.partitions to what they have",
        )
    elif len(missing) < len(wanted):
        notes.ok("partitions", f"{settings.kafka.partitions} each")


async def _retention(settings: Settings, ours: list[str], notes: Notebook) -> None:
    if not ours:
        return
    try:
        configs = await kafka_wire.topic_configs(settings.kafka.bootstrap, ours, (RETENTION,))
    except ServerMissing as error:
        notes.warn(
            "retention", f"the broker does not tell: {error.reason}", "check retention.ms with the broker's own tools"
        )
        return
    told = {
        name: int(config[RETENTION])
        for name, config in configs.items()
        if config.get(RETENTION, "").lstrip("-").isdigit()
    }
    if not told:
        notes.warn(
            "retention", "the broker does not tell", "the embedded broker keeps everything in memory until it ends"
        )
        return
    judge_retention(settings, told, notes)


def judge_retention(settings: Settings, told: dict[str, int], notes: Notebook) -> None:
    """Whether each topic keeps its records as long as the table of topics says (ms; -1: for ever)."""
    short = []
    for topic, spec in topics.SPECS.items():
        name = kafka_topic(settings.prefix, topic)
        wanted_ms = (spec.retention_hours or settings.kafka.retention_hours) * HOUR_MS
        kept_ms = told.get(name, wanted_ms)
        if kept_ms != ENDLESS and kept_ms < wanted_ms:
            short.append(f"{name} keeps {kept_ms / HOUR_MS:g} h of {wanted_ms / HOUR_MS:g} h")
    notes.judge(
        "retention",
        good=not short,
        found="; ".join(short) or f"as configured, {len(told)} topics",
        remedy="kafka-configs --alter --entity-type topics --add-config retention.ms=… for those topics",
    )


async def _newest(
    cluster: Cluster, settings: Settings, existing: dict[str, int], notes: Notebook, clock: Clock
) -> None:
    """Reading works; and no record is dated after now. Its date comes from the machine of whoever sent it."""
    names = [kafka_topic(settings.prefix, topic) for topic in (Topic.ORDERS, Topic.TOOLS, Topic.PUSH_LATEST)]
    places = [Partition(name, number) for name in names for number in range(existing.get(name, 0))]
    tails = await asyncio.gather(*(cluster.read_tail(place, 1) for place in places))
    newest_ms = max((record.timestamp_ms for tail in tails for record in tail), default=None)
    if newest_ms is None:
        notes.ok("clock", "no records yet to compare with")
        return
    ahead_s = newest_ms / 1000 - clock.wall_s()
    notes.judge(
        "clock",
        good=ahead_s <= MAX_SKEW_S,
        found=f"newest record is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's clock",
        remedy="let the machines of mirror and worker follow NTP",
    )
