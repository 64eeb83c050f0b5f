"""What the judge of the fault suite looks at: the outbox, the topics as a reader sees them, and the client's ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import asyncpg

from contracts.names import Topic, kafka_topic
from headrace.devkit.evidence import Evidence
from headrace.devkit.ledger import Committed
from runtime.settings import Settings
from streams.kafka_log import Cluster, Partition, Record
from tests.support.fault_history import Fact, Sight, Verdict, judge

EVERYTHING = 10_000_000
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


async def judged(settings: Settings, evidence: Evidence) -> tuple[list[Verdict], list[str], int]:
    """A verdict for each topic and for the client; what lies among the dead letters, and how many rows wait."""
    verdicts = []
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        for topic in sorted(set(TOPICS.values())):
            records = await _records(cluster, kafka_topic(settings.prefix, topic))
            facts = [_fact(event) for event in evidence.committed if TOPICS.get(event.kind) is topic]
            verdicts.append(judge(f"topic {topic.value}", facts, _sights(records)))
    finally:
        await cluster.stop()
    orders = [_fact(event) for event in evidence.committed if event.kind == "order"]
    seen = [
        Sight(m.push_id, m.tenant)
        for m in evidence.received
        if m.channel.startswith("orders:") and m.sse_id is not None
    ]
    verdicts.append(judge("client", orders, seen))
    connection = await asyncpg.connect(settings.postgres.url)
    try:
        letters = [
            f"{row['letters']} dead letters of {row['source']}: {row['error_class']}, such as {row['example']}"
            for row in await connection.fetch(BURIED)
        ]
        return verdicts, letters, int(await connection.fetchval(LEFT))
    finally:
        await connection.close()


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
