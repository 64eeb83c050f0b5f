"""The AsyncAPI 3.0 document: every channel, what stands on it and who reads it, made from names and schemas.

`python -m contracts.asyncapi > docs/asyncapi.yaml`; a test holds the file to what this prints.
"""

from __future__ import annotations

import sys

from contracts import schemas, yaml_text
from contracts.envelope import Envelope
from contracts.json_types import Json, JsonObject
from contracts.names import CONTRACT_VERSION, Stream, Topic, kafka_topic, redis_stream, topic_of

_PREFIX = "{prefix}"

# Which events stand on which stream and, after the mirror, on the topic of the same name.
SOURCES: dict[Stream, tuple[str, ...]] = {
    Stream.ORDERS: ("order_status",),
    Stream.TOOLS: ("tool_call", "tool_executed"),
    Stream.RAG: ("rag_retrieval",),
    Stream.EXPERIMENTS: ("ab_test_assignment", "ab_test_outcome"),
    Stream.VOICE: ("audio_quality_report",),
}
WINDOWS = ("tool_latency_window", "retrieval_quality_window", "audio_quality_window")
# What the data of a push message can be.
PUSHED: dict[Topic, tuple[str, ...]] = {
    Topic.PUSH: ("order_status", *WINDOWS, "ab_test_result", "alert_raised", "alert_resolved"),
    Topic.PUSH_LATEST: (*WINDOWS, "ab_test_result", "lag", "breaker_changed"),
}
_HEADERS = {
    "ce_id": "Id under which the event is published once.",
    "ce_type": "Event type of the outbox row.",
    "ce_source": "Service that published it.",
    "ce_subject": "<aggregate type>/<aggregate id>.",
    "ce_time": "When the row was written.",
    "ce_specversion": "CloudEvents version, 1.0.",
    "traceparent": "W3C trace context, empty when there is no trace.",
    "tenant": "Whose event it is.",
    "redis_id": "Id of the Redis entry that it was mirrored from.",
    "epoch": "Epoch of the mirror's lease; readers drop a lower one than they have seen.",
}
_PUSH_HEADERS = {
    "pid": "Id of the message, for dropping repeats.",
    "ch": "Its channel.",
    "src": "<topic>/<partition>/<offset> that it was derived from.",
    "ck": "On push-latest: only the newest message of a key matters.",
}


def document() -> JsonObject:
    """The whole document as data."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headrace",
            "version": CONTRACT_VERSION,
            "description": "From a committed outbox row to a live browser page: Redis Streams, Kafka topics and SSE.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {"host": "localhost:6379", "protocol": "redis"},
            "kafka": {"host": "localhost:9092", "protocol": "kafka"},
            "gateway": {"host": "localhost:8080", "protocol": "http"},
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": _schemas(),
            "parameters": {"prefix": {"description": "First part of every name.", "default": "headrace"}},
        },
    }


def _channels() -> JsonObject:
    channels: JsonObject = {}
    for stream, events in SOURCES.items():
        channels[f"stream-{stream}"] = _channel(
            redis_stream(_PREFIX, stream), "redis", ["entry"], "Entries as the relay publishes them."
        )
        channels[f"topic-{stream}"] = _channel(
            kafka_topic(_PREFIX, topic_of(stream)), "kafka", list(events), "The same events, in order for each key."
        )
    for topic in PUSHED:
        channels[f"topic-{topic}"] = _channel(
            kafka_topic(_PREFIX, topic), "kafka", [f"{topic}-message"], "Messages for clients, keyed by tenant."
        )
    channels["sse"] = {
        "address": "/v1/stream",
        "servers": [_ref("servers", "gateway")],
        "description": "Server-sent events; query: channels=a,b. Resumed by Last-Event-ID.",
        "messages": {name: _ref("components/messages", name) for name in _push_names()},
    }
    return channels


def _channel(address: str, server: str, messages: list[str], description: str) -> JsonObject:
    return {
        "address": address,
        "servers": [_ref("servers", server)],
        "description": description,
        "parameters": {"prefix": _ref("components/parameters", "prefix")},
        "messages": {name: _ref("components/messages", name) for name in messages},
    }


def _operations() -> JsonObject:
    operations: JsonObject = {}
    for stream in SOURCES:
        operations[f"relay-{stream}"] = _operation("send", f"stream-{stream}", "The relay publishes committed rows.")
        operations[f"mirror-{stream}"] = _operation("send", f"topic-{stream}", "The mirror copies entries to Kafka.")
        operations[f"work-{stream}"] = _operation("receive", f"topic-{stream}", "Agents fold and forward events.")
    for topic in PUSHED:
        operations[f"derive-{topic}"] = _operation("send", f"topic-{topic}", "Agents emit messages.")
        operations[f"feed-{topic}"] = _operation("receive", f"topic-{topic}", "The gateway reads messages.")
    operations["deliver"] = _operation("send", "sse", "The gateway delivers messages to browsers.")
    return operations


def _operation(action: str, channel: str, summary: str) -> JsonObject:
    return {"action": action, "channel": _ref("channels", channel), "summary": summary}


def _messages() -> JsonObject:
    messages: JsonObject = {"entry": {"summary": "One Redis entry.", "payload": _ref("components/schemas", "entry")}}
    for events in SOURCES.values():
        for event in events:
            messages[event] = {
                "headers": _texts(_HEADERS),
                "payload": _ref("components/schemas", event),
                "examples": [{"payload": _sample(event)}],
            }
    for topic, events in PUSHED.items():
        data: Json = {"oneOf": [_ref("components/schemas", event) for event in events]}
        message = _ref("components/schemas", "push_message")
        messages[f"{topic}-message"] = {
            "headers": _texts(_PUSH_HEADERS),
            "payload": {"allOf": [message, {"properties": {"data": data}}]},
        }
    return messages


def _push_names() -> list[str]:
    return [f"{topic}-message" for topic in PUSHED]


def _schemas() -> JsonObject:
    names = Envelope.__struct_fields__
    entry = _texts(dict.fromkeys(names, ""))
    collected: JsonObject = {"entry": {**entry, "required": list(names)}}
    for name in schemas.names():
        schema = schemas.load(name)
        component = name.event if name.major == "1" else f"{name.event}_v{name.major}"
        collected[component] = {key: value for key, value in schema.items() if key != "$schema"}
    return collected


def _texts(described: dict[str, str]) -> JsonObject:
    """A schema of an object whose fields are all texts."""
    properties: JsonObject = {
        name: {"type": "string", "description": text} if text else {"type": "string"}
        for name, text in described.items()
    }
    return {"type": "object", "properties": properties}


def _sample(event: str) -> JsonObject:
    return schemas.sample_object(schemas.SchemaName(event, "1"))


def _ref(folder: str, name: str) -> JsonObject:
    return {"$ref": f"#/{folder}/{name}"}


if __name__ == "__main__":
    sys.stdout.write(yaml_text.dump(document()))
