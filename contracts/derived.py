"""What Headrace derives from events: windows of tool latency."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from contracts.fields import Count, Id, Milliseconds, Moment, Tenant
from contracts.names import LOCAL_LIMITS

Revision = Annotated[int, msgspec.Meta(ge=1, le=LOCAL_LIMITS.int_max)]


class ToolLatencyWindow(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="tool_latency_window"
):
    """One tool's latencies in [window_start, window_end); percentiles within 1 %, the rest exact.

    `revision` (>= 1) grows with every change: it follows the source position of the window's newest record. `closed`
    says that no more records are expected; a late one still makes a newer revision. `ts` equals `window_end`.
    """

    EVENT: ClassVar[str] = "tool_latency_window"

    version: str
    tenant_id: Tenant
    ts: Moment
    tool: Id
    window_start: Moment
    window_end: Moment
    count: Count
    errors: Count
    sum_us: Count
    p50_ms: Milliseconds
    p95_ms: Milliseconds
    p99_ms: Milliseconds
    max_ms: Milliseconds
    closed: bool
    revision: Revision
