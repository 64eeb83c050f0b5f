"""What a broker refuses for good: which errors those are, and what people are told about one.

Where it stands: `streams.kafka_producer` asks here about each send that failed. aiokafka's own `retriable` does not
answer it: that is False for a fenced producer, for a broker whose disk fails and for every code that it does not know,
and those pass with a new producer or another leader. So what never passes is listed here; the rest is waited for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from aiokafka import errors
from aiokafka.errors import BrokerResponseError, KafkaError

from contracts.errors import SendRefused, ServerMissing
from streams.kafka_admin import Admin
from streams.kafka_connection import MAX_ASIDE_BYTES

if TYPE_CHECKING:
    from runtime.settings import KafkaSettings
    from streams.records import Partition

LIMIT = "max.message.bytes"
PLAYBOOK = "docs/playbooks/kafka-refuses.md"
# For this long the broker is asked for a limit that it names no longer in its refusal.
_LIMIT_S = 2.0


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """A record that the topic's rules exclude, such as one without a key in a compacted topic (aiokafka lacks it)."""

    errno = 87
    message = "INVALID_RECORD"
    description = "the broker found that a record breaks the rules of the topic"


_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_RIGHTS = "give this client's principal the right: kafka-acls.sh --add --operation {right}"
_RULES = "look at the topic's configuration and at the broker's log"
_REMEDIES: dict[type[KafkaError], str] = {
    errors.TopicAuthorizationFailedError: _RIGHTS.format(right="Write --topic {topic}"),
    errors.ClusterAuthorizationFailedError: _RIGHTS.format(right="IdempotentWrite --cluster")
    + ", or set kafka.idempotence to false",
    errors.InvalidTimestampError: "set this machine's clock right, or raise the topic's message.timestamp.after.max.ms",
    errors.InvalidTopicError: _RULES,
    errors.InvalidRequiredAcksError: _RULES,
    errors.PolicyViolationError: _RULES,
    errors.UnsupportedForMessageFormatError: _RULES,
    InvalidRecordError: _RULES,
}


def learn_codes() -> None:
    """Let aiokafka name the codes that it lacks; to it they are all one unknown error."""
    errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)


async def refusal(
    settings: KafkaSettings, error: KafkaError, place: Partition, *, records: int, batch_bytes: int
) -> SendRefused | None:
    """What to tell about a failed batch that no repeating will get through; None when repeating may help.

    A broker does not say which limit a batch broke: it is asked for it, for at most two seconds.
    """
    name = type(error).__name__
    told = f"{name}: {records} record{'s' * (records > 1)} in a batch of {batch_bytes} bytes"
    if isinstance(error, _TOO_LARGE):
        limit = await _limit(settings, place.topic)
        told = f"{told}, {LIMIT} of the topic is {limit or 'not told by the broker'}"
        remedy = (
            f"raise it: kafka-configs.sh --alter --entity-type topics --entity-name {place.topic} "
            f"--add-config {LIMIT}={max(MAX_ASIDE_BYTES, batch_bytes)}"
        )
    elif type(error) in _REMEDIES:
        remedy = _REMEDIES[type(error)].format(topic=place.topic)
    else:
        return None
    return SendRefused(settings.bootstrap, f"{place.topic}/{place.number}", told, f"{remedy}; see {PLAYBOOK}")


def start_refusal(settings: KafkaSettings, error: BaseException) -> SendRefused | None:
    """The same for a producer that cannot even start."""
    if isinstance(error, errors.ClusterAuthorizationFailedError):
        return SendRefused(settings.bootstrap, "an idempotent producer", type(error).__name__, _REMEDIES[type(error)])
    return None


async def _limit(settings: KafkaSettings, topic: str) -> str | None:
    admin = Admin(settings)
    with suppress(ServerMissing, TimeoutError):
        async with asyncio.timeout(_LIMIT_S):
            try:
                await admin.start()
                return (await admin.configs([topic])).get(topic, {}).get(LIMIT)
            finally:
                await admin.stop()
    return None
