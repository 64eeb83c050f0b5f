"""A client's way through the ring: what it gets next, and where it stands after. Pure.

    joined ──► lagging ──(nothing left below `upto`)──► live ──(transport full)──► lagging …

A live client needs no cursor: the hub hands it every new message. A lagging one reads slices of the ring until it has
caught up. When the ring has dropped what it needs, it is told so by one gap, and goes on at the live end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.ring import Ring


class Gap(NamedTuple):
    """Messages with first <= offset < to may be missing from the stream; the client should read tables anew."""

    first: int
    to: int
    reason: str


class Taken(NamedTuple):
    """One slice. `cursor` is the next offset needed; `live` means that nothing below `upto` is left."""

    chunks: list[bytes]
    cursor: int
    live: bool
    gap: Gap | None


def take(ring: Ring, tenant: str, cursor: int, wanted: Callable[[str], bool], *, upto: int, budget_bytes: int) -> Taken:
    """The next messages of a lagging client, about `budget_bytes` of them (at least one when there is one).

    `upto` is the offset up to which live clients have been served. A cursor beyond it (the client got further on
    another gateway) takes nothing and is not live yet.
    """
    if cursor > upto:
        return Taken([], cursor, live=False, gap=None)
    if not ring.covers(tenant, cursor):
        return Taken([], upto, live=True, gap=Gap(cursor, upto, "evicted"))
    chunks: list[bytes] = []
    size_bytes = 0
    for entry in ring.read(tenant, cursor, upto):
        if not wanted(entry.channel):
            continue
        if chunks and size_bytes + len(entry.chunk) > budget_bytes:
            return Taken(chunks, entry.offset, live=False, gap=None)
        chunks.append(entry.chunk)
        size_bytes += len(entry.chunk)
    return Taken(chunks, upto, live=True, gap=None)
