"""The message that a client gets, the same over SSE, WebSocket and NDJSON.

Where it stands: agents make it of events and derived rows; `gateway.feed` reads it from the push topics. Its `id` is
made of what it tells, so that a repeat is recognised. It is unique within its tenant:

    order   its dedupe_id                               alert   al:<alert id>:<raised|resolved>
    window  <kind>:<subject>:<start ms>:<revision>      lag     lag:<ms>
            and :running behind it while not closed
    result  abr:<experiment>:<epoch>:<metric>:<revision>
    breaker brk:<process>:<dependency>:<ms>:<state>

The kinds of window are tlw (tool, and its version when named), rqw (index) and aqw (session and length in ms, as audio
has windows of several lengths). Names in an id have % and : written as %25 and %3A, so that no two ids read the same.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from contracts.alerts import AlertRaised, AlertResolved
from contracts.breakers import BreakerChanged
from contracts.derived import AbTestResult, AudioQualityWindow, RetrievalQualityWindow, ToolLatencyWindow
from contracts.envelope import trace_id_of
from contracts.errors import WHOLE, BadJson, BadText, TooLarge
from contracts.fields import Moment, Tenant
from contracts.lag import Lag
from contracts.names import (
    BREAKER_CHANNEL,
    LAG_CHANNEL,
    LOCAL_LIMITS,
    SYSTEM_TENANT,
    TenantId,
    alert_channel,
    experiment_channel,
    order_channel,
    rag_channel,
    tool_channel,
    voice_channel,
)
from contracts.orders import OrderStatus
from contracts.text import has_control
from contracts.times import epoch_ms

_EVENT = "push_message"
# The payload's own limit and room for what stands around it.
MAX_BYTES = LOCAL_LIMITS.payload_bytes + 8192
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


class PushMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message on one channel of one tenant; `data` is raw JSON, passed on as it came."""

    v: Literal[1] = 1
    id: str
    channel: str
    type: str
    tenant_id: Tenant
    ts: Moment
    trace_id: str | None = None
    data: msgspec.Raw


_decoder = msgspec.json.Decoder(PushMessage)


def encode(message: PushMessage) -> bytes:
    """The message as one line of JSON: no CR and no LF, so that it fits an SSE data field.

    A line break in `data` can only be space between tokens, and becomes one.

    Raises:
        BadText: id, channel, type, tenant or trace id hold a control character or a lone surrogate.
    """
    for field, text in (
        ("id", message.id),
        ("channel", message.channel),
        ("type", message.type),
        ("tenant_id", message.tenant_id),
        ("trace_id", message.trace_id or ""),
    ):
        if has_control(text):
            raise BadText(event=_EVENT, field=field, limit="must hold no control character", value=text)
    raw = msgspec.json.encode(message)
    return raw.translate(_LINE_BREAKS) if b"\n" in raw or b"\r" in raw else raw


def decode(raw: bytes) -> PushMessage:
    """The message; `data` keeps `raw` alive.

    Raises:
        ContractError: the leaf says what is wrong.
    """
    if len(raw) > MAX_BYTES:
        raise TooLarge(
            event=_EVENT, field=WHOLE, limit=f"must have at most {MAX_BYTES} bytes", value=f"{len(raw)} bytes"
        )
    try:
        return _decoder.decode(raw)
    except RecursionError:
        raise TooLarge(event=_EVENT, field=WHOLE, limit="is nested too deeply", value=raw) from None
    except ValueError as error:
        raise BadJson(event=_EVENT, field=WHOLE, limit=str(error), value=raw) from None


def of_order(event: OrderStatus, payload: bytes | str, *, dedupe_id: str, traceparent: str = "") -> PushMessage:
    """An order's new status; `payload` is the event's own text."""
    return PushMessage(
        id=dedupe_id,
        channel=order_channel(event.order_id),
        type=event.EVENT,
        tenant_id=event.tenant_id,
        ts=event.ts,
        trace_id=trace_id_of(traceparent),
        data=msgspec.Raw(payload),
    )


def of_window(window: ToolLatencyWindow) -> PushMessage:
    """A window of a tool's latency, running or closed."""
    version = [] if window.tool_version is None else [named(window.tool_version)]
    return _of_window(window, "tlw", tool_channel(window.tool), named(window.tool), *version)


def of_retrieval_window(window: RetrievalQualityWindow) -> PushMessage:
    """A window of an index's retrievals, running or closed."""
    return _of_window(window, "rqw", rag_channel(window.index), named(window.index))


def of_audio_window(window: AudioQualityWindow) -> PushMessage:
    """A window of a voice session's audio, running or closed."""
    length_ms = epoch_ms(window.window_end) - epoch_ms(window.window_start)
    return _of_window(window, "aqw", voice_channel(window.session_id), named(window.session_id), str(length_ms))


def of_experiment(result: AbTestResult) -> PushMessage:
    """One metric of an experiment, as it stands now."""
    return PushMessage(
        id=f"abr:{named(result.experiment)}:{result.epoch}:{named(result.metric)}:{result.revision}",
        channel=experiment_channel(result.experiment),
        type=result.EVENT,
        tenant_id=result.tenant_id,
        ts=result.ts,
        data=msgspec.Raw(msgspec.json.encode(result)),
    )


def _of_window(
    window: ToolLatencyWindow | RetrievalQualityWindow | AudioQualityWindow, kind: str, channel: str, *subject: str
) -> PushMessage:
    running = "" if window.closed else ":running"
    return PushMessage(
        id=f"{kind}:{':'.join(subject)}:{epoch_ms(window.window_start)}:{window.revision}{running}",
        channel=channel,
        type=window.EVENT,
        tenant_id=window.tenant_id,
        ts=window.ts,
        data=msgspec.Raw(msgspec.json.encode(window)),
    )


def named(name: str) -> str:
    """A name as it stands in ids and keys between colons."""
    return name.replace("%", "%25").replace(":", "%3A")


def of_alert(alert: AlertRaised | AlertResolved) -> PushMessage:
    """An alert that begins or ends."""
    transition = "raised" if isinstance(alert, AlertRaised) else "resolved"
    return PushMessage(
        id=f"al:{alert.alert_id}:{transition}",
        channel=alert_channel(alert.name),
        type=alert.EVENT,
        tenant_id=alert.tenant_id,
        ts=alert.ts,
        data=msgspec.Raw(msgspec.json.encode(alert)),
    )


def of_lag(lag: Lag) -> PushMessage:
    """How far behind the platform is."""
    return PushMessage(
        id=f"lag:{epoch_ms(lag.at)}",
        channel=LAG_CHANNEL,
        type="lag",
        tenant_id=TenantId(SYSTEM_TENANT),
        ts=lag.at,
        data=msgspec.Raw(msgspec.json.encode(lag)),
    )


def of_breaker(change: BreakerChanged) -> PushMessage:
    """A breaker's change of state."""
    return PushMessage(
        id=f"brk:{named(change.process)}:{named(change.dependency)}:{epoch_ms(change.at)}:{change.after}",
        channel=BREAKER_CHANNEL,
        type="breaker_changed",
        tenant_id=TenantId(SYSTEM_TENANT),
        ts=change.at,
        data=msgspec.Raw(msgspec.json.encode(change)),
    )
