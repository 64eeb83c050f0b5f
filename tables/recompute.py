"""Whole windows from records, as the live table would hold them, and how they differ from those that it holds. Pure.

Where it stands: `headrace.replay` reads a stretch of the source and hands its records in; what comes out goes to the
owners of the rows (`agents.backfill`). The fold is the table's own, so that the same records give the same state.

What counts is event time: a record belongs to its window wherever it stands in the log. Live rules that depend on when
a record came are not repeated, with one exception: an event dated too far ahead of its own record counts here no more
than there. Late events that the live table has set aside do count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, NamedTuple

import msgspec
import numpy as np

from contracts import envelope
from contracts.errors import ContractError
from contracts.names import Mode, TenantId
from tables.fold import S, Samples, Summary, TableKind, chosen, contributions, newest_by_tenant, with_tenants
from tables.rows import WindowKey
from tables.windows import window_start_ms

# More rows than this are not kept as objects but packed, a tenth of the memory; the oldest windows first.
HOT_ROWS = 20_000
# Float state may differ in its last digits with the order of the records (tables/fold.py).
FLOAT_TOLERANCE = 1e-9

Headers = Sequence[tuple[str, bytes]]


class Page(NamedTuple):
    """Some records of one partition, in offset order."""

    values: Sequence[bytes]
    record_ms: Sequence[int]
    """The timestamp of each record."""
    headers: Callable[[int], Headers]
    """The headers of values[i]."""


class TimeRange(NamedTuple):
    """Event times [from_ms, to_ms), milliseconds since the epoch."""

    from_ms: int
    to_ms: int

    def whole(self, size_ms: int) -> TimeRange:
        """The windows of `size_ms` that lie in it entirely; empty (from_ms >= to_ms) when there is none."""
        return TimeRange(-(-self.from_ms // size_ms) * size_ms, self.to_ms // size_ms * size_ms)


@dataclass(frozen=True)
class Wanted:
    """Which windows to recompute; `span` holds whole windows. `tenant_id` None: of all tenants."""

    span: TimeRange
    tenant_id: TenantId | None
    mode: Mode
    future_skew_ms: int


class Recomputation(Generic[S]):
    """The windows of one partition, from all records that were handed in so far."""

    def __init__(self, kind: TableKind[S], wanted: Wanted) -> None:
        self.kind = kind
        self.wanted = wanted
        self.records = 0
        self.contributions = 0
        """Values that went into the windows asked for."""
        self.newest_ms: dict[TenantId, int] = {}
        """Each tenant's newest believable event time, asked for or not."""
        self._hot: dict[WindowKey, S] = {}
        self._cold: dict[WindowKey, bytes] = {}

    def __len__(self) -> int:
        return len(self._hot) + len(self._cold)

    def fold(self, page: Page) -> None:
        """Take in records, each exactly once, in offset order."""
        self.records += len(page.values)
        samples = self._wanted(page)
        if samples:
            self.contributions += len(samples.values)
            keys, bounds, columns = contributions(samples, self.kind.size_ms).grouped()
            self.kind.fold.add_each(list(map(self._state, keys)), bounds, columns)
        if len(self._hot) > HOT_ROWS:
            self._pack_oldest()

    def keys(self) -> list[WindowKey]:
        """The windows that have records, the oldest first."""
        return oldest_first({*self._hot, *self._cold})

    def state(self, key: WindowKey) -> S | None:
        """A window's state, not to be changed; None: no record belongs to it."""
        held = self._hot.get(key)
        if held is None and key in self._cold:
            return self.kind.fold.unpack(msgspec.msgpack.decode(self._cold[key]))
        return held

    def outlived(self, key: WindowKey, *, retention_ms: int, forget_ms: int, now_ms: int) -> bool:
        """Whether the live table keeps this window no more (tables.window_partition says when)."""
        newest_ms = self.newest_ms.get(key.tenant_id, key.start_ms)
        if now_ms - newest_ms > forget_ms:
            return True
        size_ms = self.kind.size_ms
        return key.start_ms + size_ms + retention_ms <= window_start_ms(newest_ms, size_ms)

    def dump(self) -> bytes:
        """Everything, for `load`."""
        rows = [(*key, msgspec.Raw(raw)) for key, raw in self._cold.items()]
        rows += [(*key, msgspec.Raw(self._packed(state))) for key, state in self._hot.items()]
        return msgspec.msgpack.encode((self.records, self.contributions, self.newest_ms, rows))

    def load(self, raw: bytes) -> None:
        """Take up what `dump` gave."""
        self.records, self.contributions, newest_ms, rows = _dumps.decode(raw)
        self.newest_ms = {TenantId(tenant): at_ms for tenant, at_ms in newest_ms.items()}
        self._hot = {}
        self._cold = {WindowKey(TenantId(tenant), subject, at): bytes(raw) for tenant, subject, at, raw in rows}

    def _wanted(self, page: Page) -> Samples:
        """The samples in a page that go into a window that is asked for."""
        (from_ms, to_ms), only = self.wanted.span, self.wanted.tenant_id
        samples = self.kind.samples(page.values, self.wanted.mode)
        samples = with_tenants(samples, lambda index: _tenant_of(page.headers(index)))
        limit_ms = np.array(page.record_ms, np.int64)[samples.indexes] + self.wanted.future_skew_ms
        samples = chosen(samples, np.flatnonzero(samples.at_ms <= limit_ms))
        for tenant, at_ms in newest_by_tenant(samples).items():
            self.newest_ms[tenant] = max(self.newest_ms.get(tenant, -1), at_ms)
        within = (samples.at_ms >= from_ms) & (samples.at_ms < to_ms)
        if only is not None:
            within &= np.array([tenant == only for tenant, _ in samples.names], np.bool_)
        return chosen(samples, np.flatnonzero(within))

    def _state(self, key: WindowKey) -> S:
        held = self._hot.get(key)
        if held is None:
            packed = self._cold.pop(key, None)
            fold = self.kind.fold
            held = fold.empty() if packed is None else fold.unpack(msgspec.msgpack.decode(packed))
            self._hot[key] = held
        return held

    def _packed(self, state: S) -> bytes:
        return msgspec.msgpack.encode(self.kind.fold.pack(state))

    def _pack_oldest(self) -> None:
        for key in sorted(self._hot, key=lambda key: key.start_ms)[: HOT_ROWS // 2]:
            self._cold[key] = self._packed(self._hot.pop(key))


_Dump = tuple[int, int, dict[str, int], list[tuple[str, tuple[str, ...], int, msgspec.Raw]]]
_dumps = msgspec.msgpack.Decoder(_Dump)


class Change(StrEnum):
    """What a recomputed window is, compared with the row that the table holds."""

    SAME = "same"
    NEW = "new"
    """The table has no such row."""
    CHANGED = "changed"
    SHRINKS = "shrinks"
    """It counts less than the row: records are gone, or no longer accepted. Refused unless forced."""
    GONE = "gone"
    """No record belongs to a row that the table has; it would become empty. Refused unless forced."""


def change_of(kind: TableKind[S], before: S | None, after: S | None) -> Change:
    """How a window's row changes from `before` to `after`; at least one of them is there."""
    fold = kind.fold
    if before is None:
        return Change.NEW
    if alike(fold.pack(before), fold.pack(fold.empty() if after is None else after)):
        return Change.SAME
    if after is None:
        return Change.GONE
    shrinks = count_of(kind, fold.summarise(after)) < count_of(kind, fold.summarise(before))
    return Change.SHRINKS if shrinks else Change.CHANGED


def count_of(kind: TableKind[Any], summary: Summary) -> float:
    """How much is in a row: each table's first column is a count of what was folded."""
    value = summary[kind.columns[0].name]
    return float(value) if isinstance(value, int | float) else 0.0


def alike(left: object, right: object) -> bool:
    """Whether two packed states are equal: whole numbers and texts exactly, floats to FLOAT_TOLERANCE."""
    if isinstance(left, float) or isinstance(right, float):
        numbers = isinstance(left, float | int) and isinstance(right, float | int)
        return numbers and math.isclose(left, right, rel_tol=FLOAT_TOLERANCE, abs_tol=FLOAT_TOLERANCE)  # type: ignore[arg-type]
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(alike(value, right[name]) for name, value in left.items())
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(alike, left, right))
    return left == right


def oldest_first(keys: Iterable[WindowKey]) -> list[WindowKey]:
    """Windows by their start, then by what they are about."""
    return sorted(keys, key=lambda key: (key.start_ms, key.tenant_id, key.subject))


def _tenant_of(headers: Headers) -> TenantId | None:
    """The tenant that a record's headers name; None when they cannot be read, which the live table buries."""
    try:
        return envelope.from_headers(headers).tenant_id
    except ContractError:
        return None
