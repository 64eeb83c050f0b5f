from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contracts import push, yaml_text
from contracts.compat import breaks
from contracts.envelope import Envelope, from_fields, from_headers, to_headers
from contracts.errors import ContractError
from contracts.json_types import Json
from contracts.names import EventId, TenantId, channel_matches

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NASTY = st.text(st.sampled_from('ab\r\n\0\x1f\u2028\u0085\ud800"\\:'), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
MOMENTS = st.datetimes(timezones=st.just(UTC))


PAYLOADS = st.builds(json.dumps, DATA, indent=st.sampled_from([None, 0, 2]))


@given(PAYLOADS, st.sampled_from(["\n", "\r\n", "\r"]), NASTY, NASTY, NASTY, MOMENTS)
def test_an_encoded_message_is_one_line_or_a_contract_error(
    payload: str, line_break: str, id_: str, channel: str, type_: str, ts: datetime
):
    data = payload.replace("\n", line_break)
    message = push.PushMessage(
        id=id_, channel=channel, type=type_, tenant_id=TenantId("t"), ts=ts, data=msgspec.Raw(data.encode())
    )
    try:
        raw = push.encode(message)
    except ContractError:
        return
    assert b"\r" not in raw
    assert b"\n" not in raw
    assert raw.splitlines() == [raw]
    read = push.decode(raw)
    assert (read.id, read.channel, read.type, read.ts) == (id_, channel, type_, ts)
    assert json.loads(bytes(read.data)) == json.loads(payload)


@given(st.binary())
def test_arbitrary_bytes_are_a_message_or_a_contract_error(raw: bytes):
    with suppress(ContractError):
        push.decode(raw)


ENVELOPES = st.builds(
    Envelope,
    event_id=TEXTS.map(EventId),
    event_type=TEXTS,
    aggregate_id=TEXTS,
    aggregate_type=TEXTS.filter(lambda text: "/" not in text),
    source_service=TEXTS,
    version=TEXTS,
    created_at=TEXTS,
    payload=TEXTS,
    dedupe_id=TEXTS.filter(bool),
    tenant_id=TEXTS.filter(bool).map(TenantId),
    traceparent=st.sampled_from(["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]),
)


@given(ENVELOPES, st.integers(0, 10**17))
def test_an_envelope_survives_redis_and_its_headers_survive_kafka(envelope: Envelope, epoch: int):
    assert from_fields(envelope.to_fields()) == envelope
    headers = from_headers(to_headers(envelope, "5-1", epoch))
    assert headers[:3] == (envelope.dedupe_id, envelope.event_type, envelope.source_service)
    assert (headers.aggregate_type, headers.aggregate_id) == (envelope.aggregate_type, envelope.aggregate_id)
    assert (headers.tenant_id, headers.traceparent, headers.redis_id, headers.epoch) == (
        envelope.tenant_id,
        envelope.traceparent,
        "5-1",
        epoch,
    )


@given(
    st.dictionaries(
        st.binary(max_size=8) | st.sampled_from([b"payload", b"event_id", b"event_type"]), st.binary(max_size=8)
    )
)
def test_arbitrary_fields_and_headers_are_read_or_are_a_contract_error(fields: dict[bytes, bytes]):
    with suppress(ContractError):
        from_fields(fields)
    with suppress(ContractError):
        from_headers([(name.decode("latin-1"), value) for name, value in fields.items()])


@given(TEXTS, TEXTS)
def test_a_pattern_never_covers_a_channel_outside_its_prefix(prefix: str, channel: str):
    assert channel_matches(f"{prefix}:*", channel) == channel.startswith(f"{prefix}:")
    assert channel_matches(channel, channel) or channel.endswith(":*")


PRINTED = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=12)
YAML_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | PRINTED
DOCUMENTS: st.SearchStrategy[Json] = st.recursive(
    YAML_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PRINTED, inner, max_size=3), max_leaves=12
)


@given(DOCUMENTS)
def test_yaml_text_reads_back_as_the_same_data(value: Json):
    assert yaml.safe_load(yaml_text.dump(value)) == value


@given(st.dictionaries(TEXTS, DATA, max_size=4))
def test_a_schema_never_breaks_itself(schema: dict[str, Json]):
    assert list(breaks(schema, schema)) == []
