"""Kafka: what the broker can do, our topics with their partitions and retention, reading, the clock. Reads only."""

from __future__ import annotations

import asyncio

from contracts.errors import ServerMissing
from contracts.names import Topic, kafka_topic
from headrace.checks import kafka_wire
from headrace.checks.finding import MAX_SKEW_S, Notebook
from headrace.growing import tables_of
from runtime.clock import Clock
from runtime.settings import Settings
from streams import changelogs, group_rules, topics
from streams.kafka_admin import Admin
from streams.kafka_log import Cluster, Partition

HOUR_MS = 3_600_000
RETENTION = "retention.ms"
SIZE = "max.message.bytes"
ENDLESS = -1


async def examine(settings: Settings, notes: Notebook, clock: Clock) -> None:
    """Ask everything.

    Raises:
        ServerMissing: no broker answers.
    """
    cluster = Admin(settings.kafka)
    try:
        await cluster.start()
        notes.ok("cluster", f"epoch {await cluster.epoch()}")
        await _abilities(settings, notes)
        existing = await cluster.topics()
        judge_partitions(settings, existing, notes)
        await _configs(cluster, settings, existing, notes)
        objection = await group_rules.objection(cluster, settings)
        notes.judge(
            "group",
            good=not objection,
            found=objection or "takes workers",
            remedy="change the setting that is named; until then a worker ends at its start",
        )
        if any(topic.name in existing for topic in topics.wanted(settings)):
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


async def _configs(cluster: Admin, settings: Settings, existing: dict[str, int], notes: Notebook) -> None:
    ours = [topic.name for topic in topics.wanted(settings)]
    names = [name for name in (*ours, *(table.changelog for table in tables_of(settings))) if name in existing]
    if not names:
        return
    try:
        configs = await cluster.configs(names)
    except ServerMissing as error:
        notes.warn(
            "retention", f"the broker does not tell: {error.reason}", "check retention.ms with the broker's own tools"
        )
        return
    told = _numbers(configs, RETENTION)
    if told:
        judge_retention(settings, {name: kept_ms for name, kept_ms in told.items() if name in ours}, notes)
    else:
        notes.warn(
            "retention", "the broker does not tell", "the embedded broker keeps everything in memory until it ends"
        )
    judge_sizes(settings, _numbers(configs, SIZE), notes)


def _numbers(configs: dict[str, dict[str, str]], setting: str) -> dict[str, int]:
    """What the broker tells of one setting, by topic."""
    return {
        name: int(config[setting]) for name, config in configs.items() if config.get(setting, "").lstrip("-").isdigit()
    }


def judge_sizes(settings: Settings, told: dict[str, int], notes: Notebook) -> None:
    """Whether each topic takes batches as long as the processes send: what a broker refuses ends a worker."""
    wanted = {topic.name: int(topic.config[SIZE]) for topic in topics.wanted(settings)}
    wanted |= {table.changelog: int(changelogs.CONFIG[SIZE]) for table in tables_of(settings)}
    small = [f"{name} takes {told[name]} of {size}" for name, size in wanted.items() if told.get(name, size) < size]
    if small:
        notes.warn(
            "record size",
            f"{'; '.join(small)} bytes",
            f"kafka-configs.sh --alter --entity-type topics --add-config {SIZE}=… for those topics "
            "(docs/playbooks/kafka-refuses.md)",
        )
    elif told:
        notes.ok("record size", f"as configured, {len(told)} topics")


def judge_retention(settings: Settings, told: dict[str, int], notes: Notebook) -> None:
    """Whether each topic keeps its records as long as the table of topics says (ms; -1: for ever)."""
    short = []
    for name, spec in topics.named(settings.prefix).items():
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
