"""The given event `order_status` (order_v1)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from contracts.fields import Id, Moment, Tenant


class Meta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What rides along: why, and the W3C trace context that the outbox writer puts here."""

    reason: str | None = None
    traceparent: str | None = None


class OrderStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="order_status"):
    """An order took a status. Strict: uuid ids, status created, confirmed or failed. `ts` is aware."""

    EVENT: ClassVar[str] = "order_status"

    version: str
    tenant_id: Tenant
    order_id: Id
    status: str
    ts: Moment
    meta: Meta | None = None
