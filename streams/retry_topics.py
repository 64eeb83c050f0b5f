"""The topics over which dead letters go back to their consumers: how many partitions they have, and what is sent.

Where it stands: `streams.requeuer` asks once for each time that it leads; the next stop is the consumer's retry topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.names import Consumer, retry_topic
from contracts.requeue import Origin, Requeued, own_headers, to_headers
from streams import growth_journal
from streams.kafka_connection import kafka_down
from streams.kafka_log import Cluster
from streams.records import Outgoing

if TYPE_CHECKING:
    from runtime.settings import Settings
    from streams.requeue_table import UnsentRecord


async def partitions(settings: Settings) -> int:
    """How many partitions every retry topic has: a letter's number counts for one of them, so it must be theirs.

    Raises:
        ServerMissing: (transient) Kafka does not answer, or none of the topics is there yet.
        SettingsError: the topics are being given more partitions.
    """
    names = [retry_topic(settings.prefix, consumer) for consumer in Consumer]
    cluster = Cluster(settings.kafka)
    await cluster.start()
    try:
        await growth_journal.refuse_while_growing(cluster, settings)
        found = await cluster.topics(names)
    finally:
        await cluster.stop()
    if len(set(found.values())) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in found.items())
        reason = f"its retry topics must all have the same number of partitions: {told or 'there are none'}"
        raise kafka_down(settings.kafka, reason)
    return max(found.values())


def record_of(prefix: str, letter: UnsentRecord, now_ms: int) -> Outgoing:
    """The record that gives a letter back to its consumer: as it was, and which letter it is."""
    origin = Origin(letter.topic, letter.incarnation, letter.partition, letter.offset)
    headers = [*own_headers(letter.headers), *to_headers(Requeued(origin, letter.id, letter.seq))]
    topic = retry_topic(prefix, Consumer(letter.source))
    return Outgoing(topic, letter.key, letter.payload, headers, now_ms, letter.target)
