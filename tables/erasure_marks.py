"""Marks of erased tenants: what is to be forgotten of a tenant in one partition of a table, for good. Pure.

A deleted row can come back: from the log, when its records are delivered again, or from a former owner that was paused
and writes late. Neither must undo an erasure. So it is not the deletions that erase, it is a row that says so:

    key    ["meta", 0, tenant, "erased"]
    value  [format, position, 0, job, state, rows, at_ms]

Every row of the tenant at or below `position` is erased, wherever it came from and whenever: `tables.erasable_store`
shows none of them, and `agents.erasable_work` folds none of the tenant's records up to there. A mark is a row as others
are, so of two the one with the higher position stays. The deletions that follow it only free the space; `state` says
whether they are all written. What the tenant sends behind `position` is counted like anything new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from contracts.names import TenantId
from tables.formats import check_format
from tables.incarnations import META_KIND
from tables.rows import WindowKey, encode_key, header_of, scan_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FORMAT = 1
SWEEPING, DONE = 0, 1
# Rows of records that wait for another try (agents.pending_rows); their place is in the key's last element.
_WAITING_KIND = "later"
# An alert's row has no window: [kind, tenant, tool].
_ALERT_KIND = "al"
_NAME = "erased"
_END = _NAME.encode()
# All meta rows with a tenant and one name.
BOUNDS = scan_bounds(META_KIND, 1, 0, 1)


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """An erasure of one tenant in one partition. `rows`: how many were deleted; `at_ms`: Unix time."""

    format: int
    position: int
    announced: int
    job: str
    state: int
    rows: int
    at_ms: int


class Keyed(Protocol):
    """What `pieces` looks at."""

    @property
    def key(self) -> bytes | None: ...  # noqa: D102


_K = TypeVar("_K", bound=Keyed)

_decode = msgspec.msgpack.Decoder(Mark).decode
_parts = msgspec.msgpack.decode


def key_of(tenant: str) -> bytes:
    """The key of a tenant's mark."""
    return encode_key(META_KIND, WindowKey(TenantId(tenant), (_NAME,), 0))


def encode(mark: Mark) -> bytes:
    """A mark's row."""
    return msgspec.msgpack.encode(mark)


def decode(raw: bytes) -> Mark:
    """The mark.

    Raises:
        ValueError: the row's format has another meaning here.
    """
    mark = _decode(raw)
    check_format("a row of an erasure", mark.format, FORMAT)
    return mark


def found_in(rows: Iterable[tuple[bytes, bytes]]) -> dict[str, Mark]:
    """The marks among rows, by tenant."""
    marks = {}
    for key, raw in rows:
        kind, *parts = _parts(key)
        if kind == META_KIND and len(parts) == 3 and parts[2] == _NAME and parts[1]:  # noqa: PLR2004 - as drawn above
            marks[parts[1]] = decode(raw)
    return marks


def is_mark(key: bytes) -> bool:
    """Whether a key is a mark's, by its bytes alone."""
    return key.endswith(_END) and BOUNDS[0] <= key < BOUNDS[1]


def tenant_of(key: bytes) -> str:
    """Whose row it is; "" for a row of the partition itself, marks among them."""
    kind, *parts = _parts(key)
    if kind == META_KIND:
        return ""
    tenant = parts[0] if kind == _ALERT_KIND else parts[1]
    return str(tenant)


def is_erased(marks: Mapping[str, Mark], key: bytes, raw: bytes) -> bool:
    """Whether the row is one that was erased: its tenant has a mark at or above its position."""
    mark = marks.get(tenant_of(key))
    return mark is not None and _position(key, raw) <= mark.position


def outlives(marks: Mapping[str, Mark], key: bytes) -> bool:
    """Whether a row that is there, and shown, stays although recovery meets its deletion.

    A former owner may write late that it deletes an erased row, when another one has put a new row in its place. A row
    that was deleted for its age is found to be too old again by its owner. Waiting records never share a key.
    """
    return bool(marks) and tenant_of(key) in marks and _parts(key)[0] != _WAITING_KIND


def pieces(records: Sequence[_K]) -> Iterator[Sequence[_K]]:
    """Records cut behind each mark: it holds for those that follow."""
    begin = 0
    for index, record in enumerate(records, 1):
        if record.key is not None and is_mark(record.key):
            yield records[begin:index]
            begin = index
    if begin < len(records):
        yield records[begin:]


def _position(key: bytes, raw: bytes) -> int:
    kind, *parts = _parts(key)
    if kind == _WAITING_KIND:
        return int(str(parts[-1]).partition("/")[0])
    return header_of(raw).position
