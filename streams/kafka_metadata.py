"""What our Kafka clients ask brokers about a cluster: the topics that they were named, and nothing else.

aiokafka asks for all topics of the cluster until it is named one, and then creates that one where it is missing. What
10,000 partitions are answered with takes it most of a second of CPU, in which nothing else of the process moves: once
or twice for each client that is made, and a mirror makes two for each stream.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest


def learn_only_named(client: Any) -> None:  # noqa: ANN401 - aiokafka has no types
    """Make a client, before it connects, learn only the topics named to it (`add_topic`), and create none by asking."""

    async def update(known: Any, topics: Collection[str] | None) -> bool:  # noqa: ANN401 - the same
        request = MetadataRequest(None if topics is None else list(topics), allow_auto_topic_creation=False)
        first = client.get_random_node()
        for node in (first, *(broker.nodeId for broker in client.cluster.brokers() if broker.nodeId != first)):
            try:
                answer = await client.send(node, request)
            except (KafkaError, TimeoutError):
                continue
            if answer.brokers:
                known.update_metadata(answer)
                return True
        return False

    client._metadata_update = update  # noqa: SLF001 - there is no switch, and a producer makes its client itself
