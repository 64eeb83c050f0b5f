"""Payload text in, typed event out, and back. The one table of the events that this build knows.

Where it stands: the relay decodes every payload here once, before it is published; agents decode it again from the
Kafka record. The text itself is forwarded as it is: unknown keys stay in it, and structs do not see them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple, TypeAlias

import msgspec

from contracts import experiments, retrieval, voice
from contracts.alerts import AlertRaised, AlertResolved
from contracts.derived import AbTestResult, AudioQualityWindow, RetrievalQualityWindow, ToolLatencyWindow
from contracts.document import read
from contracts.errors import WHOLE, BadText, MissingField, OutOfRange, UnknownEvent, UnknownVersion, WrongType
from contracts.experiments import AbTestAssignment, AbTestOutcome
from contracts.explain import explained
from contracts.json_types import JsonObject
from contracts.modes import Around, completed, departures, repaired
from contracts.names import RESERVED_TENANT_PREFIX, UNKNOWN_TENANT, Mode, TenantId
from contracts.orders import OrderStatus
from contracts.retrieval import RagRetrieval
from contracts.text import problem_of_id
from contracts.times import problem_of_moment
from contracts.tools import ToolCall, ToolExecuted
from contracts.voice import AudioQualityReport

FromOutside: TypeAlias = (
    OrderStatus | ToolCall | ToolExecuted | RagRetrieval | AbTestAssignment | AbTestOutcome | AudioQualityReport
)
Derived: TypeAlias = (
    ToolLatencyWindow | RetrievalQualityWindow | AudioQualityWindow | AbTestResult | AlertRaised | AlertResolved
)
Event: TypeAlias = FromOutside | Derived

# Event name -> major version -> struct.
EVENTS: dict[str, dict[str, type[Event]]] = {
    "order_status": {"1": OrderStatus},
    "tool_call": {"1": ToolCall},
    "tool_executed": {"1": ToolExecuted},
    "rag_retrieval": {"1": RagRetrieval},
    "ab_test_assignment": {"1": AbTestAssignment},
    "ab_test_outcome": {"1": AbTestOutcome},
    "audio_quality_report": {"1": AudioQualityReport},
    "tool_latency_window": {"1": ToolLatencyWindow},
    "retrieval_quality_window": {"1": RetrievalQualityWindow},
    "audio_quality_window": {"1": AudioQualityWindow},
    "ab_test_result": {"1": AbTestResult},
    "alert_raised": {"1": AlertRaised},
    "alert_resolved": {"1": AlertResolved},
}

# What RFC 3339 says; msgspec also takes a space for the T and an offset without colon.
_RFC3339 = re.compile(r"[0-9-]{10}[Tt][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_MOMENTS = ("ts", "window_start", "window_end", "started_at", "resolved_at")
_VERSION = re.compile(r"([0-9]+)\.[0-9]+")


class Decoded(NamedTuple):
    """An event, and by which names it departs from its schema (compat mode only)."""

    event: Event
    deviations: tuple[str, ...]


def decode(payload: bytes | str, *, mode: Mode, around: Around | None = None) -> Decoded:
    """The event that a payload holds.

    Args:
        payload: JSON text, at most 1 MiB.
        mode: strict holds the given schemas to the letter; compat forgives what contracts.modes lists.
        around: what the carrier of the payload knows about it; only used in compat mode.

    Raises:
        ContractError: the leaf says what is wrong, its fields say where.
    """
    presumed = around.event_type if around and around.event_type else "?"
    document = read(payload, presumed)
    names: list[str] = []
    if mode == "compat" and around is not None:
        document, names = completed(document, around)
    struct = _struct_of(document, presumed)
    event, forgiven = _typed(document, struct, mode)
    names += forgiven
    for departure in departures(event):
        if mode == "strict":
            raise WrongType(event=event.EVENT, field=departure.field, limit=departure.limit, value=departure.value)
        names.append(departure.name)
    _check_ids(event)
    _check_agreement(event)
    return Decoded(event, tuple(names))


def encode(event: Event) -> bytes:
    """The event as JSON, with absent optional fields left out. Decoding it gives an equal event.

    Raises:
        ContractError: the event is one that `decode` refuses (NUL, an infinite number, a time without offset).
    """
    try:
        raw = msgspec.json.encode(event)
    except UnicodeEncodeError as error:
        value = ascii(error.object)
        raise BadText(event=event.EVENT, field=WHOLE, limit="must hold no lone surrogate", value=value) from None
    except OverflowError:
        raise OutOfRange(event=event.EVENT, field=WHOLE, limit="must hold 64-bit integers", value=event) from None
    if decode(raw, mode="compat").event != event:
        limit = "must decode to itself (a time without offset does not)"
        raise WrongType(event=event.EVENT, field=WHOLE, limit=limit, value=event)
    return raw


def tenant_of(event: Event) -> TenantId:
    """Whose event it is; UNKNOWN_TENANT when it does not say."""
    return event.tenant_id or UNKNOWN_TENANT


def traceparent_of(event: Event) -> str | None:
    """The trace context in the event's meta, as it stands there."""
    if isinstance(event, FromOutside) and event.meta is not None:
        return event.meta.traceparent
    return None


def _struct_of(document: JsonObject, presumed: str) -> type[Event]:
    name = document.get("event")
    if name is None:
        raise MissingField(event=presumed, field="event", limit="is required", value="nothing")
    if not isinstance(name, str):
        raise WrongType(event=presumed, field="event", limit="must be a text", value=name)
    majors = EVENTS.get(name)
    if majors is None:
        raise UnknownEvent(event=name, field="event", limit=f"must be one of {', '.join(EVENTS)}", value=name)
    version = document.get("version")
    if version is None:
        raise MissingField(event=name, field="version", limit="is required", value="nothing")
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise WrongType(event=name, field="version", limit='must be "<major>.<minor>"', value=version)
    struct = majors.get(match[1])
    if struct is None:
        raise UnknownVersion(event=name, field="version", limit=f"must have major {' or '.join(majors)}", value=version)
    return struct


def _typed(document: JsonObject, struct: type[Event], mode: Mode) -> tuple[Event, list[str]]:
    nulls = _nulls(document, struct)
    if mode == "strict":
        if nulls:
            raise WrongType(event=struct.EVENT, field=nulls[0], limit="must not be null", value=None)
        event = _converted(document, struct)
        for field in _MOMENTS:
            if field in document and not _RFC3339.fullmatch(str(document[field])):
                limit = "must be an RFC 3339 time with an offset"
                raise WrongType(event=struct.EVENT, field=field, limit=limit, value=document[field])
        return event, []
    names = [f"{field}:null" for field in nulls]
    try:
        return msgspec.convert(document, struct), names
    except msgspec.ValidationError:
        document, forgiven = repaired(document)
        return _converted(document, struct), names + forgiven


def _converted(document: JsonObject, struct: type[Event]) -> Event:
    try:
        return msgspec.convert(document, struct)
    except msgspec.ValidationError as error:
        raise explained(struct.EVENT, str(error), document) from None


@cache
def _optional(struct: type[Event]) -> tuple[str, ...]:
    """Fields that may be left out; no schema lets one be null."""
    return tuple(field.encode_name for field in msgspec.structs.fields(struct) if field.default is None)


def _nulls(document: JsonObject, struct: type[Event]) -> list[str]:
    fields = [field for field in _optional(struct) if field in document and document[field] is None]
    meta = document.get("meta")
    if isinstance(meta, dict):
        fields += [f"meta.{field}" for field in ("reason", "traceparent") if field in meta and meta[field] is None]
    return fields


def _check_ids(event: Event) -> None:
    """Ids become keys and channels; tenants that begin with "_" are ours and never come from outside."""
    for field, text in _ids_of(event):
        problem = None if text is None else problem_of_id(event.EVENT, field, text)
        if problem is not None:
            raise problem
    tenant_id = event.tenant_id or ""
    if isinstance(event, FromOutside) and tenant_id.startswith(RESERVED_TENANT_PREFIX):
        limit = f'must not begin with "{RESERVED_TENANT_PREFIX}"'
        raise WrongType(event=event.EVENT, field="tenant_id", limit=limit, value=tenant_id)


def _check_agreement(event: Event) -> None:
    """What no single field shows: a moment that no window can hold, and fields that cannot all be right."""
    match event:
        case RagRetrieval():
            problem = retrieval.disagreement(event)
        case AbTestAssignment() | AbTestOutcome():
            problem = experiments.disagreement(event)
        case AudioQualityReport():
            problem = voice.disagreement(event)
        case _:
            return
    problem = problem_of_moment(event.EVENT, "ts", event.ts) or problem
    if problem is not None:
        raise problem


def _ids_of(event: Event) -> tuple[tuple[str, str | None], ...]:
    """The texts of an event that become part of keys, rows and channels, by field."""
    ids: tuple[tuple[str, str | None], ...]
    match event:
        case OrderStatus():
            ids = (("order_id", event.order_id),)
        case ToolCall():
            ids = (("tool", event.tool),)
        case ToolExecuted() | ToolLatencyWindow():
            ids = (("tool", event.tool), ("tool_version", event.tool_version))
        case RagRetrieval() | RetrievalQualityWindow():
            ids = (("index", event.index),)
        case AbTestAssignment():
            ids = (("experiment", event.experiment), ("arm", event.arm), ("unit", event.unit), _event_id(event))
        case AbTestOutcome():
            ids = (("experiment", event.experiment), ("metric", event.metric), ("unit", event.unit), _event_id(event))
        case AbTestResult():
            arms = tuple(("arms", each.arm) for each in event.arms)
            ids = (("experiment", event.experiment), ("metric", event.metric), ("control", event.control), *arms)
        case AudioQualityReport() | AudioQualityWindow():
            ids = (("session_id", event.session_id),)
        case AlertRaised() | AlertResolved():
            ids = (("name", event.name), ("subject", event.subject))
    return (("tenant_id", tenant_of(event)), *ids)


def _event_id(event: AbTestAssignment | AbTestOutcome) -> tuple[str, str | None]:
    return "event_id", event.event_id
