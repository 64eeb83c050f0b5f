from __future__ import annotations

import pytest

from contracts import names
from contracts.names import Stream, Topic


@pytest.mark.parametrize(
    ("aggregate", "event", "stream"),
    [
        ("order", "order_status", Stream.ORDERS),
        ("Order", "voice_order_placed", Stream.ORDERS),
        ("tool", "tool_executed", Stream.TOOLS),
        ("retrieval", "rag_retrieval", Stream.RAG),
        ("prompt", "prompt_tested", Stream.PROMPTS),
        ("experiment", "ab_test_outcome", Stream.EXPERIMENTS),
        ("voice", "audio_quality_report", Stream.VOICE),
        ("chat", "tool_call", Stream.TOOLS),
        ("", "ab_test_assignment", Stream.EXPERIMENTS),
        ("", "audio_quality_report", Stream.VOICE),
        ("", "rag_retrieval", Stream.RAG),
        ("product", "product_changed", Stream.ORDERS),
        ("storage", "storage_moved", Stream.ORDERS),
    ],
)
def test_a_row_goes_to_the_stream_of_its_aggregate_then_of_its_event(aggregate: str, event: str, stream: Stream):
    assert names.stream_of(aggregate, event) is stream


def test_every_stream_has_a_topic_of_the_same_name():
    assert [names.topic_of(stream).value for stream in Stream] == [stream.value for stream in Stream]
    assert names.redis_stream("ragline", Stream.ORDERS) == "ragline:stream:orders"
    assert names.kafka_topic("headrace", Topic.PUSH_LATEST) == "headrace.push-latest"


@pytest.mark.parametrize(
    ("pattern", "channel", "matches"),
    [
        ("orders:*", "orders:12", True),
        ("orders:*", "orders:", True),
        ("orders:*", "orders", False),
        ("orders:*", "ordersx:1", False),
        ("orders:1", "orders:1", True),
        ("orders:1", "orders:12", False),
        ("orders:1*", "orders:12", False),
        ("*", "orders:12", False),
        (":*", "orders:12", False),
        ("tools:search:*", "tools:search:running", True),
    ],
)
def test_a_pattern_covers_its_own_channel_or_all_below_its_prefix(pattern: str, channel: str, *, matches: bool):
    assert names.channel_matches(pattern, channel) is matches


def test_channels_are_named_after_what_they_are_about():
    assert names.order_channel("12") == "orders:12"
    assert names.tool_channel("search") == "tools:search"
    assert names.rag_channel("menu") == "rag:menu"
    assert names.experiment_channel("greeting") == "experiments:greeting"
    assert names.voice_channel("v-9") == "voice:v-9"
    assert names.alert_channel("tool_latency_high") == "alerts:tool_latency_high"
