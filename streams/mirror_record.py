"""From an entry of a Redis stream to the Kafka record that stands for it; pure.

An entry that breaks its contract is sent too, bytes as they are, with a header `invalid` that says why: the mirror
has no database, so the worker buries it. Only a payload that Kafka would refuse for its length is cut.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from contracts.codec import tenant_of, traceparent_of
from contracts.envelope import from_fields, to_headers
from contracts.errors import ContractError, MissingField, TooLarge
from contracts.names import LOCAL_LIMITS, UNKNOWN_TENANT, Mode
from contracts.outbox import decode_entry
from contracts.routing import partition_key
from streams.mirror_plan import PARKED, StreamId, parse_id
from streams.records import Headers, Outgoing

if TYPE_CHECKING:
    from streams.redis_log import Entry

INVALID = "invalid"

# Payload, key and headers together must stay below the largest record that our topics take.
_HEADERS_BYTES = 65_536


class Mirrored(NamedTuple):
    """A record to be sent, and what the mirror must remember of its entry."""

    record: Outgoing
    id: StreamId
    dedupe_id: bytes
    invalid: bool
    tenant: str


def waited(made: Mirrored) -> Mirrored:
    """The same of an entry that was parked: its id says nothing about how far the stream is sent."""
    return made._replace(record=made.record._replace(headers=[(PARKED, b"1"), *made.record.headers]))


def mirrored(entry: Entry, topic: str, *, mode: Mode, epoch: int, now_ms: int) -> Mirrored:
    """The record for an entry: key by what owns its rows, payload byte for byte, CloudEvents headers.

    Never raises for anything an entry can hold. `epoch` is the lease's, `now_ms` Unix time.
    """
    try:
        envelope = from_fields({name.encode(): value for name, value in entry.fields.items()})
        if not envelope.event_id and not entry.fields.get("dedupe_id"):
            # A made-up dedupe id would be the same for all such entries, and all but one would count as repeats.
            raise MissingField(event="envelope", field="event_id", limit="must not be empty", value="")
        event = decode_entry(envelope, mode).event
        envelope = envelope.about(tenant_of(event), traceparent_of(event))
        headers = to_headers(envelope, entry.id, epoch)
        if _size_bytes(headers) > _HEADERS_BYTES:
            raise TooLarge(event="envelope", field="", limit=f"must have at most {_HEADERS_BYTES} bytes", value="more")
        record = Outgoing(topic, partition_key(envelope, event), entry.fields["payload"], headers, now_ms)
        dedupe_id = envelope.dedupe_id.encode()
        return Mirrored(record, parse_id(entry.id), dedupe_id, invalid=False, tenant=envelope.tenant_id)
    except ContractError as error:
        return _invalid(entry, topic, error, epoch, now_ms)


def _invalid(entry: Entry, topic: str, error: ContractError, epoch: int, now_ms: int) -> Mirrored:
    reason = str(error)
    value = entry.fields.get("payload")
    if value is None:
        shown = {name: text.decode("utf-8", "backslashreplace") for name, text in entry.fields.items()}
        value = json.dumps(shown).encode()
    if len(value) > LOCAL_LIMITS.payload_bytes:
        reason = f"{reason}; only the first {LOCAL_LIMITS.payload_bytes} of {len(value)} bytes are kept"
        value = value[: LOCAL_LIMITS.payload_bytes]
    headers = [*_headers(entry, topic, epoch), (INVALID, reason.encode("utf-8", "backslashreplace"))]
    key = entry.fields.get("aggregate_id", b"")[: LOCAL_LIMITS.id_chars]
    record = Outgoing(topic, key, value, headers, now_ms)
    named = dict(headers)
    tenant = named.get("tenant", UNKNOWN_TENANT.encode()).decode()
    return Mirrored(record, parse_id(entry.id), named["ce_id"], invalid=True, tenant=tenant)


def _headers(entry: Entry, topic: str, epoch: int) -> Headers:
    """As for any record where the fields can be read, else the few that the mirror itself needs."""
    fields = entry.fields
    try:
        if fields.get("event_id") or fields.get("dedupe_id"):
            headers = to_headers(from_fields({name.encode(): v for name, v in fields.items()}), entry.id, epoch)
            if _size_bytes(headers) <= _HEADERS_BYTES:
                return headers
    except ContractError:
        pass
    return [
        ("ce_id", f"{topic}:{entry.id}".encode()),
        ("ce_type", fields.get("event_type", b"")[: LOCAL_LIMITS.id_chars]),
        ("redis_id", entry.id.encode()),
        ("epoch", str(epoch).encode()),
    ]


def _size_bytes(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)
