"""From Kafka records to events and from messages to Kafka records: what all agents share. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts import envelope, push
from contracts.errors import WHOLE, ContractError, TooLarge
from contracts.names import Topic, kafka_topic
from streams.dead_letters import DeadLetter
from streams.kafka_connection import MAX_RECORD_BYTES
from streams.kafka_log import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from contracts.names import TenantId
    from contracts.push import PushMessage
    from contracts.requeue import Requeued
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


def tenant_of(record: SourceRecord, bury: Callable[[ContractError], None]) -> TenantId | None:
    """The tenant that a record's headers name; for a record without one, None, and `bury` is given the reason."""
    try:
        return envelope.from_headers(record.headers).tenant_id
    except ContractError as error:
        bury(error)
        return None


def source_of(record: SourceRecord) -> str:
    """Where a record stands, as text."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def aside_of(record: SourceRecord, late_topic: str, consumer: str) -> Outgoing:
    """The record as it came, for the topic of events that came too late for `consumer`; said in one more header.

    Raises TooLarge for one that the topic would refuse: its source took it compressed, and it is sent as it is.
    """
    header_bytes = sum(len(name) + len(value or b"") for name, value in record.headers)
    size_bytes = len(record.key or b"") + len(record.value or b"") + header_bytes
    if size_bytes > MAX_RECORD_BYTES:
        limit = f"came too late, and a record of more than {MAX_RECORD_BYTES} bytes cannot be set aside"
        raise TooLarge(event=record.topic, field=WHOLE, limit=limit, value=f"{size_bytes} bytes")
    headers = [*record.headers, ("late_for", consumer.encode())]
    return Outgoing(late_topic, record.key, record.value, headers, record.timestamp)


def letter_of(record: SourceRecord, *, consumer: str, error: ContractError, back: Requeued | None = None) -> DeadLetter:
    """A record that this consumer cannot process, with its bytes, its position and the reason.

    `back`: it came back as a dead letter, and is the same one again.
    """
    return dead_letter(record, consumer=consumer, error_class=type(error).__name__, error_text=str(error), back=back)


def dead_letter(
    record: SourceRecord,
    *,
    consumer: str,
    error_class: str,
    error_text: str,
    attempts: int = 1,
    back: Requeued | None = None,
) -> DeadLetter:
    """The same with a reason in words, after so many tries."""
    headers = dict(record.headers)
    return DeadLetter(
        source=consumer,
        topic=record.topic,
        incarnation="" if back is None else back.origin.incarnation,
        partition=record.partition,
        offset=record.offset,
        tenant_id=(headers.get("tenant") or b"").decode(errors="replace"),
        event_type=(headers.get("ce_type") or b"").decode(errors="replace"),
        key=record.key or b"",
        headers=tuple(record.headers),
        payload=record.value or b"",
        error_class=error_class,
        error_text=error_text,
        attempts=attempts,
        requeue_seq=None if back is None else back.seq,
    )
