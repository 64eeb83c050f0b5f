"""What the judge of the fault suite looks at: the outbox, the topics as a reader sees them, and the client's ledger.

In the push topic a message may stand twice (the gateway leaves the repeat out): there the first one of each counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import asyncpg

from contracts.names import Topic, kafka_topic
from headrace.devkit.evidence import Evidence
from headrace.devkit.ledger import Committed
from runtime.settings import Settings
from streams.kafka_log import Cluster, Partition, Record
from tests.support.fault_history import Fact, Sight, Verdict, judge
from tests.support.fault_trail import Trail

EVERYTHING = 10_000_000
PUSHED, CLIENT = "push topic", "client"
# Of the sample shop's kinds: the topic that their events go to.
TOPICS = {
    "order": Topic.ORDERS,
    "tool": Topic.TOOLS,
    "retrieval": Topic.RAG,
    "experiment": Topic.EXPERIMENTS,
    "voice": Topic.VOICE,
}
LEFT = "SELECT count(*) FROM outbox WHERE processed IS NOT TRUE"
BURIED = """
SELECT source, error_class, count(*) AS letters, min(error_text) AS example
FROM headrace.dead_letter GROUP BY 1, 2 ORDER BY 1, 2"""
# A record that a mirror writes when it takes over after an unclean end: no event, and readers pass over it.
FENCE = "fence"


@dataclass(frozen=True)
class Judgement:
    """A verdict for each place; what lies among the dead letters; how many rows wait; where each lost event was."""

    verdicts: list[Verdict]
    dead_letters: list[str]
    unprocessed: int
    trails: list[str]


async def judged(settings: Settings, evidence: Evidence) -> Judgement:
    """Look at each topic, at the push topic, and at what the client got."""
    verdicts = []
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        for topic in sorted(set(TOPICS.values())):
            records = await _records(cluster, kafka_topic(settings.prefix, topic))
            facts = [_fact(event) for event in evidence.committed if TOPICS.get(event.kind) is topic]
            verdicts.append(judge(f"topic {topic.value}", facts, _sights(records)))
        ordered = await _records(cluster, kafka_topic(settings.prefix, Topic.ORDERS))
        pushed = await _records(cluster, kafka_topic(settings.prefix, Topic.PUSH))
    finally:
        await cluster.stop()
    orders = [_fact(event) for event in evidence.committed if event.kind == "order"]
    verdicts.append(judge(PUSHED, orders, dict.fromkeys(_pushed(pushed))))
    seen = [
        Sight(m.push_id, m.tenant)
        for m in evidence.received
        if m.channel.startswith("orders:") and m.sse_id is not None
    ]
    verdicts.append(judge(CLIENT, orders, seen))
    lost = {fact.id for fact in orders} - {sight.id for sight in seen}
    trail = Trail(ordered, pushed, evidence.received)
    connection = await asyncpg.connect(settings.postgres.url)
    try:
        letters = [
            f"{row['letters']} dead letters of {row['source']}: {row['error_class']}, such as {row['example']}"
            for row in await connection.fetch(BURIED)
        ]
        waiting = int(await connection.fetchval(LEFT))
    finally:
        await connection.close()
    return Judgement(verdicts, letters, waiting, [trail.of(identity) for identity in sorted(lost)])


def _fact(event: Committed) -> Fact:
    # Calls of a tool are not committed in any order: each is an aggregate of its own.
    aggregate = event.key if event.kind != "tool" else f"{event.key} {event.outbox_id}"
    return Fact(event.push_id, event.tenant, aggregate, event.outbox_id)


async def _records(cluster: Cluster, topic: str) -> list[list[Record]]:
    count = (await cluster.topics([topic])).get(topic, 0)
    return [await cluster.read_tail(Partition(topic, number), EVERYTHING) for number in range(count)]


def _sights(partitions: Iterable[Iterable[Record]]) -> Iterator[Sight]:
    """The records as any reader takes them: one of a lower epoch than was seen before in its partition is dropped."""
    for records in partitions:
        highest = 0
        for record in records:
            headers = dict(record.headers)
            epoch = int(headers.get("epoch", b"0"))
            if epoch >= highest:
                highest = epoch
                if FENCE in headers:
                    continue
                yield Sight(headers.get("ce_id", b"").decode(), headers.get("tenant", b"").decode())


def _pushed(partitions: Iterable[Iterable[Record]]) -> Iterator[Sight]:
    """The messages about orders, whoever wrote them."""
    for records in partitions:
        for record in records:
            headers = dict(record.headers)
            if headers.get("ch", b"").startswith(b"orders:"):
                yield Sight(headers["pid"].decode(), (record.key or b"").decode())
