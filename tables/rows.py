"""What all rows of all tables have in common: how keys and values are written, and which version of a row wins. Pure.

MessagePack arrays only:

    key    [kind, window start ms, tenant, *subject]
    value  [format, position, announced, *fields]

`kind` is two or three letters for a kind of row; a table may hold several kinds. Keys sort by kind and window start, so
that old windows stand together. `fields` belong to the table's fold.

`position` is the highest offset of the source partition that is in the row: a record at or below it is a repeat and
changes nothing. A table's partition has exactly one source partition, so a number says it all. When the source topic
was recreated its offsets begin again at 0; then positions carry the incarnation's number in front
(`incarnation * 2**40 + offset`), so that they still compare.

`announced` is the position at which the closed window was last pushed, and the push acknowledged. So
`position > announced` and a watermark past the window's end mean: push it (again). The position is also the window's
revision, which makes the message's id the same however often it is sent.

Behind the fields may stand how many dead letters came back to the row, as an extension type (`tables.row_codec`): they
are older than its position, and each is one revision more.

Formats only ever append fields. A reader takes the fields that it knows and keeps the rest as they are (`tail`), so
that workers of two releases can hand partitions to each other during an upgrade. `format` changes only when the meaning
of a field does; then an older reader refuses the row.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec.msgpack import Ext

from contracts.names import TenantId

# What a row is about, after its tenant: for tool_latency (tool, version).
Subject = tuple[str, ...]

INCARNATION_SHIFT = 40

# The extension type of the last element, how many letters came back; how it begins for numbers of one to five bytes,
# and how far before the end of the row.
RETURNED = 1
_RETURNED_HEADS = ((b"\xd4\x01", 3), (b"\xd5\x01", 4), (b"\xc7\x03\x01", 6), (b"\xc7\x05\x01", 8))


class WindowKey(NamedTuple):
    """Which row: tenant, subject, and the window's start in ms since the epoch (0 in a table without windows)."""

    tenant_id: TenantId
    subject: Subject
    start_ms: int


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first fields of every row's value; decoding to it skips the others."""

    format: int
    position: int
    announced: int


_header = msgspec.msgpack.Decoder(Header)
_keys = msgspec.msgpack.Decoder(tuple[str | int, ...])
_encode = msgspec.msgpack.encode


def encode_key(kind: str, key: WindowKey) -> bytes:
    """A key's bytes, the same in the store and on the changelog."""
    return _encode((kind, key.start_ms, key.tenant_id, *key.subject))


def decode_key(raw: bytes) -> tuple[str, WindowKey]:
    """The kind and the key."""
    kind, start_ms, tenant, *subject = msgspec.msgpack.decode(raw)
    return kind, WindowKey(TenantId(tenant), tuple(subject), start_ms)


def header_of(raw: bytes) -> Header:
    """A row's header, without decoding the rest."""
    return _header.decode(raw)


def position_of(raw: bytes) -> int:
    """The source position up to which a row has been folded."""
    return _header.decode(raw).position


def returned_of(raw: bytes) -> int:
    """How many dead letters came back to a row."""
    if not any(raw[-before:].startswith(head) for head, before in _RETURNED_HEADS):
        return 0
    last = msgspec.msgpack.decode(raw)[-1]  # a field may end in such bytes
    return int(msgspec.msgpack.decode(last.data)) if isinstance(last, Ext) and last.code == RETURNED else 0


def newest(held: bytes | None, arriving: bytes) -> bytes:
    """Which version of a row recovery keeps: the one with the higher position, whatever order the changelog gives.

    A former owner that was paused may write an older version late. At equal positions the one wins to which more
    letters came back: a paused owner has not had them. Else the later one, which differs at most in its announcement.
    """
    if held is None:
        return arriving
    new, old = position_of(arriving), position_of(held)
    if new == old:
        return held if returned_of(held) > returned_of(arriving) else arriving
    return arriving if new > old else held


def scan_bounds(kind: str, parts: int, from_ms: int, to_ms: int) -> tuple[bytes, bytes]:
    """The keys [lower, upper) of a kind's windows that start in [from_ms, to_ms); `parts` is its subject's length.

    MessagePack writes integers from 0 up so that their bytes sort as they do.
    """
    head = bytes([0x90 + 3 + parts]) + _encode(kind)
    return head + _encode(from_ms), head + _encode(to_ms)


def tenant_bounds(kind: str, parts: int, start_ms: int, tenant: TenantId) -> tuple[bytes, bytes]:
    """The keys [lower, upper) of one tenant's rows of one window start.

    Behind the tenant come texts or nothing; no byte of MessagePack texts is above 0xdb, so 0xff ends them.
    """
    prefix = bytes([0x90 + 3 + parts]) + _encode(kind) + _encode(start_ms) + _encode(tenant)
    return prefix, prefix + b"\xff"
