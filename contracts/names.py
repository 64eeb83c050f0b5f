"""The one table of names: tenants, streams, topics, channels, and the limits that hold at every edge.

Redis:    {prefix}:stream:{orders|tools|rag|prompts|experiments|voice}
Kafka:    {prefix}.{orders|tools|...|push|push-latest|alerts|late|replacements|replaced}
          {prefix}.retry.{orders|tool-calls|...}, one for each consumer that dead letters can be given back to
Channels: orders:<order id>   tools:<tool>   alerts:<alert name>   system:lag   system:breakers
          rag:<index>   experiments:<experiment>   voice:<session id>
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple, NewType

TenantId = NewType("TenantId", str)
EventId = NewType("EventId", str)
OutboxId = NewType("OutboxId", int)

# strict: the given schemas to the letter. compat: what deployed products really write passes and is counted.
Mode = Literal["compat", "strict"]

# What this build writes into the `version` of its own events; readers accept every minor of the same major.
CONTRACT_VERSION = "1.0"

# Tenants that begin with "_" are ours; an event from outside that claims one is refused.
RESERVED_TENANT_PREFIX = "_"
# Owner of messages about the platform itself.
SYSTEM_TENANT = TenantId("_system")
# Owner of events that name no tenant (chat_tool_v1 makes it optional). No client token can name it.
UNKNOWN_TENANT = TenantId("_unknown")

# Between the parts of a Kafka key; no id may contain it.
KEY_SEPARATOR = "\x1f"


class Limits(NamedTuple):
    """What every event must keep to; sizes in bytes, lengths in characters, latencies in milliseconds.

    `value` bounds the size of any measured number without a unit of its own, `list_items` the length of any list.
    """

    payload_bytes: int
    depth: int
    int_min: int
    int_max: int
    id_chars: int
    latency_ms: float
    value: float
    list_items: int


# 1 MiB: PostgreSQL, Redis and Kafka take more, but one row would then fill a whole Kafka batch.
# 32 levels: far above any real event, far below where a recursive parser runs out of stack.
# 1e9 ms is 11 days: sums of microseconds stay inside 64 bits for nine million calls a window.
LOCAL_LIMITS = Limits(
    payload_bytes=1024 * 1024,
    depth=32,
    int_min=-(2**63),
    int_max=2**63 - 1,
    id_chars=256,
    latency_ms=1e9,
    value=1e12,
    list_items=1000,
)


class Stream(StrEnum):
    """The Redis streams; each is mirrored to the Kafka topic of the same name."""

    ORDERS = "orders"
    TOOLS = "tools"
    RAG = "rag"
    PROMPTS = "prompts"
    EXPERIMENTS = "experiments"
    VOICE = "voice"


class Topic(StrEnum):
    """The Kafka topics: the six sources, what is derived from them, and what replay and owners tell each other."""

    ORDERS = "orders"
    TOOLS = "tools"
    RAG = "rag"
    PROMPTS = "prompts"
    EXPERIMENTS = "experiments"
    VOICE = "voice"
    PUSH = "push"
    PUSH_LATEST = "push-latest"
    ALERTS = "alerts"
    LATE = "late"
    REPLACEMENTS = "replacements"
    REPLACED = "replaced"


class Consumer(StrEnum):
    """The agents whose records can be given back to them one by one; also the `source` of their dead letters."""

    ORDERS = "orders"
    TOOL_CALLS = "tool_calls"
    AUDIO_SESSIONS = "audio_sessions"
    AUDIO_TENANTS = "audio_tenants"
    RETRIEVAL = "retrieval"
    EXPERIMENTS = "experiments"
    ADAPTER = "adapter"
    TASKS = "tasks"


def redis_stream(prefix: str, stream: Stream) -> str:
    """The Redis key of a stream."""
    return f"{prefix}:stream:{stream.value}"


def kafka_topic(prefix: str, topic: Topic) -> str:
    """The Kafka name of a topic."""
    return f"{prefix}.{topic.value}"


def retry_topic(prefix: str, consumer: Consumer) -> str:
    """The Kafka topic over which dead letters come back to one consumer, and to no other.

    It has as many partitions as the source topics, so that partition n of it belongs to the owner of theirs.
    """
    return f"{prefix}.retry.{consumer.value.replace('_', '-')}"


def topic_of(stream: Stream) -> Topic:
    """Where the mirror puts a stream's entries."""
    return Topic(stream.value)


_BY_AGGREGATE = {
    "order": Stream.ORDERS,
    "tool": Stream.TOOLS,
    "retrieval": Stream.RAG,
    "rag": Stream.RAG,
    "prompt": Stream.PROMPTS,
    "experiment": Stream.EXPERIMENTS,
    "voice": Stream.VOICE,
}

# Tried in this order: "prompt_tested" is about a prompt, "voice_order_started" is a voice event.
_BY_KEYWORD = (
    ("voice", Stream.VOICE),
    ("audio", Stream.VOICE),
    ("prompt", Stream.PROMPTS),
    ("ab_test", Stream.EXPERIMENTS),
    ("experiment", Stream.EXPERIMENTS),
    ("retrieval", Stream.RAG),
    ("rag_", Stream.RAG),
    ("tool", Stream.TOOLS),
)


def stream_of(aggregate_type: str, event_type: str) -> Stream:
    """The stream of an outbox row: by its aggregate, else by a word in its event type, else orders."""
    by_aggregate = _BY_AGGREGATE.get(aggregate_type.lower())
    if by_aggregate is not None:
        return by_aggregate
    lowered = event_type.lower()
    return next((stream for word, stream in _BY_KEYWORD if word in lowered), Stream.ORDERS)


LAG_CHANNEL = "system:lag"
BREAKER_CHANNEL = "system:breakers"


def order_channel(order_id: str) -> str:
    """Where clients follow one order."""
    return f"orders:{order_id}"


def tool_channel(tool: str) -> str:
    """Where clients follow one tool's latency."""
    return f"tools:{tool}"


def rag_channel(index: str) -> str:
    """Where clients follow the quality of one index."""
    return f"rag:{index}"


def experiment_channel(experiment: str) -> str:
    """Where clients follow one experiment's results."""
    return f"experiments:{experiment}"


def voice_channel(session_id: str) -> str:
    """Where clients follow the audio quality of one voice session."""
    return f"voice:{session_id}"


def alert_channel(name: str) -> str:
    """Where clients follow one kind of alert."""
    return f"alerts:{name}"


def channel_matches(pattern: str, channel: str) -> bool:
    """Whether a pattern covers a channel: the channel's own name, or a prefix that ends in `:*`.

    A `*` anywhere else stands for itself, and a bare `*` covers nothing but a channel of that name.
    """
    if pattern.endswith(":*"):
        return channel.startswith(pattern[:-1])
    return pattern == channel
