"""From Kafka records to events and from messages to Kafka records: what all agents share. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts import push
from contracts.errors import ContractError
from contracts.names import Topic, kafka_topic
from streams.dead_letters import DeadLetter
from streams.kafka_log import Outgoing

if TYPE_CHECKING:
    from contracts.push import PushMessage
    from runtime.settings import Settings
    from streams.record_chunk import SourceRecord


@dataclass(frozen=True)
class Names:
    """The topics that agents write to."""

    push: str
    latest: str
    late: str

    @classmethod
    def of(cls, settings: Settings) -> Names:
        """The names that follow from the settings' prefix."""
        return cls(*(kafka_topic(settings.prefix, topic) for topic in (Topic.PUSH, Topic.PUSH_LATEST, Topic.LATE)))


def push_record(names: Names, message: PushMessage, *, source: str, now_ms: int) -> Outgoing:
    """A message for the tenant's log: delivered once, in order, with a resumable id.

    `source` says which record caused it (topic/partition/offset), for people who trace an event by hand.
    """
    headers = [("pid", message.id.encode()), ("ch", message.channel.encode()), ("src", source.encode())]
    return Outgoing(names.push, message.tenant_id.encode(), push.encode(message), headers, now_ms)


def latest_record(names: Names, message: PushMessage, *, conflation_key: str, now_ms: int) -> Outgoing:
    """A message of which only the newest of its `conflation_key` matters; it has no place in the log."""
    headers = [("pid", message.id.encode()), ("ch", message.channel.encode()), ("ck", conflation_key.encode())]
    return Outgoing(names.latest, message.tenant_id.encode(), push.encode(message), headers, now_ms)


def source_of(record: SourceRecord) -> str:
    """Where a record stands, as text."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def letter_of(record: SourceRecord, *, consumer: str, error: ContractError) -> DeadLetter:
    """A record that this consumer cannot process, with its bytes, its position and the reason."""
    headers = dict(record.headers)
    return DeadLetter(
        source=consumer,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        tenant_id=(headers.get("tenant") or b"").decode(errors="replace"),
        event_type=(headers.get("ce_type") or b"").decode(errors="replace"),
        key=record.key or b"",
        headers=tuple(record.headers),
        payload=record.value or b"",
        error_class=type(error).__name__,
        error_text=str(error),
    )
