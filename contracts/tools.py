"""Tool events: the given `tool_call` (chat_tool_v1) and our `tool_executed`."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from contracts.fields import Id, LatencyMs, Moment, Tenant
from contracts.orders import Meta


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="tool_call"):
    """A chat called a tool, which took `latency_ms`. `ts` is aware; `meta` is ours, for the trace context."""

    EVENT: ClassVar[str] = "tool_call"

    version: str
    tool: Id
    args: dict[str, object]
    latency_ms: LatencyMs
    ts: Moment
    tenant_id: Tenant | None = None
    user_id: str | None = None
    session_id: str | None = None
    meta: Meta | None = None


class ToolExecuted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="tool_executed"
):
    """A tool ran to its end, well or not. `ts` is when it ended, aware."""

    EVENT: ClassVar[str] = "tool_executed"

    version: str
    tenant_id: Tenant
    tool: Id
    latency_ms: LatencyMs
    status: Literal["ok", "error"]
    ts: Moment
    error_class: str | None = None
    cache_hit: bool | None = None
    tool_version: Id | None = None
    session_id: str | None = None
    meta: Meta | None = None
