"""An outbox row of each source event reaches its topic under the key of its owner, through relay and mirror alike."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts import schemas
from contracts.asyncapi import SOURCES
from contracts.envelope import from_headers
from contracts.names import OutboxId, Stream, kafka_topic, redis_stream, topic_of
from contracts.outbox import OutboxRow, decode_record
from contracts.schemas import SchemaName
from streams.mirror_record import mirrored
from streams.redis_log import Entry
from tests.support.outbox import prepare

TENANT = "5f0c7b0e-6c0f-4c5a-9a53-3d1c7a4f8e21"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = [
    ("retrieval", "rag_retrieval", Stream.RAG, "menu"),
    ("experiment", "ab_test_assignment", Stream.EXPERIMENTS, "u-1207"),
    ("experiment", "ab_test_outcome", Stream.EXPERIMENTS, "u-1207"),
    ("voice", "audio_quality_report", Stream.VOICE, "v-9"),
    ("tool", "tool_executed", Stream.TOOLS, "search"),
]


@pytest.mark.parametrize("named", [True, False], ids=["by aggregate", "by event"])
@pytest.mark.parametrize(("aggregate", "event", "stream", "owner"), ROWS)
def test_a_row_reaches_its_topic_under_the_key_of_its_owner(
    aggregate: str, event: str, stream: Stream, owner: str, *, named: bool
):
    payload = schemas.sample(SchemaName(event, "1")).decode()
    row = OutboxRow(OutboxId(7), aggregate if named else "something", "x", event, payload, AT)
    batch = prepare([row], mode="strict", prefix="p")
    assert batch.letters == []
    [entry] = batch.entries
    assert entry.stream == redis_stream("p", stream)
    fields = {name: str(text).encode() for name, text in entry.fields.items()}
    topic = kafka_topic("p", topic_of(stream))
    made = mirrored(Entry("17-3", fields), topic, mode="strict", epoch=5, now_ms=1000)
    assert not made.invalid
    assert (made.record.topic, made.record.key) == (topic, f"{TENANT}\x1f{owner}".encode())
    assert made.record.value == payload.encode()
    headers = from_headers(made.record.headers)
    assert headers.traceparent.startswith("00-4bf92f")
    read = decode_record(payload.encode(), headers, "strict").event
    assert event == read.EVENT


def test_every_source_event_but_the_given_ones_is_walked_here():
    assert {event for events in SOURCES.values() for event in events} - {"order_status", "tool_call"} == {
        event for _, event, _, _ in ROWS
    }
