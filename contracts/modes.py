"""What compat mode forgives, and by which name it counts each deviation.

Deployed products are looser than the given schemas: integer ids, statuses outside the list, times without offset. In
strict mode each of these is an error; in compat mode it passes under a name such as "status:cancelled",
"order_id:not_uuid", "tenant_id:integer", "ts:naive". Names are few: a word outside the known ones counts as "other".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from contracts.json_types import Json, JsonObject
from contracts.names import CONTRACT_VERSION
from contracts.orders import OrderStatus

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_STATUSES = frozenset({"created", "confirmed", "failed"})
# What the ordering product is known to write besides.
_FURTHER_STATUSES = frozenset(
    {
        "cancelled",
        "canceled",
        "completed",
        "delivered",
        "paid",
        "pending",
        "preparing",
        "processing",
        "ready",
        "refunded",
    }
    | {"shipped", "updated"}
)
_ID_FIELDS = ("tenant_id", "order_id", "user_id", "session_id", "unit", "event_id", "query_id")
_ORDER_EVENT = OrderStatus.EVENT


class Around(NamedTuple):
    """What is known about a payload from the row, entry or record that carries it; "" for what is not."""

    event_type: str
    aggregate_type: str
    aggregate_id: str
    created_at: str


class Departure(NamedTuple):
    """Where a decoded event leaves its given schema; `name` is what compat counts."""

    name: str
    field: str
    limit: str
    value: object


def departures(event: object) -> Iterator[Departure]:
    """Each point in which a decoded event is looser than its schema."""
    if not isinstance(event, OrderStatus):
        return
    if event.status not in _STATUSES:
        word = event.status if event.status in _FURTHER_STATUSES else "other"
        limit = "must be created, confirmed or failed"
        yield Departure(f"status:{word}", "status", limit, event.status)
    for field, text in (("tenant_id", event.tenant_id), ("order_id", event.order_id)):
        if not _UUID.fullmatch(text):
            yield Departure(f"{field}:not_uuid", field, "must be a uuid", text)


def completed(document: JsonObject, around: Around) -> tuple[JsonObject, list[str]]:
    """The document of an order row with what it lacks taken from around it, and the names of what was missing.

    Rows of other aggregates come back as they are: only order rows are known to be written without a contract.
    """
    if "event" in document or not _is_order(around):
        return document, []
    status = around.event_type.removeprefix("order_").removeprefix("order.")
    offered: JsonObject = {
        "event": _ORDER_EVENT,
        "version": CONTRACT_VERSION,
        "order_id": around.aggregate_id,
        "ts": around.created_at,
        "status": "" if status == around.event_type else status,
    }
    added = {field: value for field, value in offered.items() if value and field not in document}
    return document | added, [f"{field}:missing" for field in added]


def _is_order(around: Around) -> bool:
    return around.aggregate_type.lower() == "order" or around.event_type.startswith("order")


def repaired(document: JsonObject) -> tuple[JsonObject, list[str]]:
    """The document with what compat forgives put right, and the names of what was; the original stays as it is."""
    fixed = dict(document)
    names: list[str] = []
    for field in _ID_FIELDS:
        value = fixed.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            fixed[field] = str(value)
            names.append(f"{field}:integer")
    if fixed.get("event") == "tool_call" and fixed.get("tenant_id") == "":
        # Optional in chat_tool_v1: an empty one is none.
        del fixed["tenant_id"]
        names.append("tenant_id:empty")
    aware = _with_offset(fixed.get("ts"))
    if aware is not None:
        fixed["ts"] = aware
        names.append("ts:naive")
    if "meta" in fixed:
        names += _repair_meta(fixed)
    return fixed, names


def _with_offset(ts: Json) -> str | None:
    """The time as UTC when it names no offset; None when there is nothing to put right."""
    if not isinstance(ts, str):
        return None
    try:
        moment = datetime.fromisoformat(ts)
    except ValueError:
        return None
    return None if moment.tzinfo is not None else f"{moment.isoformat()}Z"


def _repair_meta(fixed: JsonObject) -> list[str]:
    meta = fixed["meta"]
    if not isinstance(meta, dict):
        del fixed["meta"]
        return ["meta:not_object"]
    wrong = [name for name in ("reason", "traceparent") if not isinstance(meta.get(name), str | None)]
    fixed["meta"] = {name: value for name, value in meta.items() if name not in wrong}
    return [f"meta.{name}:not_text" for name in wrong]
