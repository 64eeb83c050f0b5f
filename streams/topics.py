"""The Kafka topics of Headrace: one table of names, and `ensure`, which creates what is missing.

`streams.mirror` fills the source topics (orders … voice) and the worker's agents the derived ones (push,
push-latest, alerts, late); `headrace replay` and the owners of rows talk over replacements and replaced; dead letters
come back to their consumers over the retry topics. Changelog topics belong to Faust and are not listed here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.names import Consumer, Topic, kafka_topic, retry_topic
from streams import growth_journal
from streams.kafka_connection import MAX_ASIDE_BYTES, MAX_RECORD_BYTES, kafka_down
from streams.kafka_log import Cluster, NewTopic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import KafkaSettings, Settings

_HOUR_MS = 3_600_000
_VISIBLE_POLLS = 600
_VISIBLE_POLL_S = 0.05


@dataclass(frozen=True)
class TopicSpec:
    """How a topic is created; an existing topic is never altered (partitions decide who owns a key).

    `retention_hours` None: settings.kafka.retention_hours. `segment_hours` bounds how far retention lags behind.
    `record_bytes`: longest record.
    """

    retention_hours: int | None = None
    segment_hours: int | None = None
    record_bytes: int = MAX_RECORD_BYTES

    def config(self, kafka: KafkaSettings) -> dict[str, str]:
        """The topic's configuration as Kafka names it."""
        hours = kafka.retention_hours if self.retention_hours is None else self.retention_hours
        config = {
            "cleanup.policy": "delete",
            "retention.ms": str(hours * _HOUR_MS),
            "max.message.bytes": str(self.record_bytes),
        }
        if self.segment_hours is not None:
            config["segment.ms"] = str(self.segment_hours * _HOUR_MS)
        return config


SPECS: dict[Topic, TopicSpec] = {
    Topic.ORDERS: TopicSpec(),
    Topic.TOOLS: TopicSpec(),
    Topic.RAG: TopicSpec(),
    Topic.PROMPTS: TopicSpec(),
    Topic.EXPERIMENTS: TopicSpec(),
    Topic.VOICE: TopicSpec(),
    # Clients resume from the gateway's ring, minutes long; a day lets an operator look back.
    Topic.PUSH: TopicSpec(retention_hours=24, segment_hours=6),
    # Only the newest value of each conflation key means anything. Not compacted by Kafka: the key is the
    # tenant.
    Topic.PUSH_LATEST: TopicSpec(retention_hours=1, segment_hours=1),
    Topic.ALERTS: TopicSpec(),
    # What its source topic has let in, and one header more.
    Topic.LATE: TopicSpec(record_bytes=MAX_ASIDE_BYTES),
    # Commands to the owners of table rows, co-partitioned with the sources, and their answers. Who asks repeats what
    # was not answered, so that nobody reads an old one with profit.
    Topic.REPLACEMENTS: TopicSpec(retention_hours=24, segment_hours=6),
    Topic.REPLACED: TopicSpec(retention_hours=24, segment_hours=6),
}

# Dead letters on their way back: what the source topic has let in, and headers that say which letter it is.
RETRIES = TopicSpec(record_bytes=MAX_ASIDE_BYTES)


def named(prefix: str) -> dict[str, TopicSpec]:
    """Every topic of the table by its full name, in the table's order, then the consumers' retry topics."""
    retries = {retry_topic(prefix, consumer): RETRIES for consumer in Consumer}
    return {kafka_topic(prefix, topic): spec for topic, spec in SPECS.items()} | retries


def wanted(settings: Settings) -> list[NewTopic]:
    """Every topic, as it is to be created."""
    kafka = settings.kafka
    return [
        NewTopic(name, kafka.partitions, kafka.replication, spec.config(kafka))
        for name, spec in named(settings.prefix).items()
    ]


async def ensure(cluster: Cluster, settings: Settings) -> list[str]:
    """Create the missing topics of the table; see `create`.

    Raises:
        SettingsError: the topics are being given more partitions.
    """
    await growth_journal.refuse_while_growing(cluster, settings)
    return await create(cluster, settings.kafka, wanted(settings))


async def create(cluster: Cluster, kafka: KafkaSettings, topics: Sequence[NewTopic]) -> list[str]:
    """Create those that are missing, wait until brokers know them, and return their names.

    May run in several processes at once. Waits at most half a minute for the new topics to be seen; raises
    ServerMissing (transient) when they are not, or when the cluster refuses to create one.
    """
    existing = await cluster.topics(topic.name for topic in topics)
    missing = [topic for topic in topics if topic.name not in existing]
    if missing:
        await cluster.create_topics(missing)
        await _until_visible(cluster, kafka, {topic.name for topic in missing})
    await cluster.refresh()
    return [topic.name for topic in missing]


async def _until_visible(cluster: Cluster, kafka: KafkaSettings, names: set[str]) -> None:
    for _poll in range(_VISIBLE_POLLS):
        seen = await cluster.topics(names)
        if all(seen.get(name, 0) > 0 for name in names):
            return
        await asyncio.sleep(_VISIBLE_POLL_S)
    raise kafka_down(kafka, f"topics are still not there after their creation: {', '.join(sorted(names))}")
