"""The sample tenants: the same names and ids in every data directory, so that a bookmarked page keeps working."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

CHANNELS = ("orders:*", "tools:*", "rag:*", "experiments:*", "voice:*", "alerts:*", "system:*")


@dataclass(frozen=True)
class Tenant:
    """One sample shop. `share` is its part of all traffic; the shares of all tenants add up to 1."""

    name: str
    id: str
    share: float


def seeded_uuid4(text: str) -> str:
    """A valid version 4 UUID that depends on `text` only."""
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4))


def _tenant(name: str, share: float) -> Tenant:
    return Tenant(name, seeded_uuid4(f"headrace sample tenant {name}"), share)


TENANTS = (_tenant("bakery", 0.5), _tenant("bookshop", 0.3), _tenant("florist", 0.2))
