"""Whose a payload is, also of one that breaks its contract. Pure.

Where it stands: erasing a tenant asks it of what lies in Redis, in Kafka, in archives and in the outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Said(msgspec.Struct):
    tenant_id: str | int = ""


_decode = msgspec.json.Decoder(_Said).decode


def said_tenant(payload: bytes | None) -> str:
    """The tenant that a payload names; "" when it names none, or is not one JSON object."""
    try:
        return str(_decode(payload or b"").tenant_id)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def owner_of(payload: bytes | None, headers: Iterable[tuple[str, bytes]]) -> str:
    """Whose a record is: as its payload says, else its headers; "" when neither does."""
    return said_tenant(payload) or (dict(headers).get("tenant") or b"").decode(errors="replace")
