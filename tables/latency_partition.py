"""One partition of the tool_latency table in memory: rows being folded, watermarks, and which windows are over.

Where it stands: between `agents.tool_calls` (decoding, messages) and `tables.tool_latency` (one row). Pure; the caller
gives monotonic time.

A row is held here from its first record until its window is closed, pushed and written; all others are in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tables import tool_latency as tl
from tables.windows import Watermarks, window_start_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contracts.names import TenantId
    from tables.store import RowStore


class Folded(Enum):
    """What became of an event."""

    COUNTED = "counted"
    REPEAT = "repeat"
    LATE = "late"
    """Counted into a window that had been closed; the window is pushed again with a higher revision."""
    EXPIRED = "expired"
    """Its window is no longer kept."""
    FUTURE = "future"
    """Dated further ahead of the broker's clock than is believable."""


@dataclass(frozen=True)
class WindowRules:
    """Lengths in milliseconds of event time, except `idle_s` (seconds of silence)."""

    size_ms: int
    retention_ms: int
    lateness_ms: int
    future_skew_ms: int
    idle_s: float


class LatencyPartition:
    """Rows of one partition; `number` is both the source's and the changelog's partition."""

    def __init__(self, number: int, rules: WindowRules, store: RowStore) -> None:
        self.number = number
        self.rules = rules
        self.position = -1
        self._store = store
        self._marks = Watermarks(idle_s=rules.idle_s)
        self._open: dict[tl.WindowKey, tl.Row] = {}
        self._dirty: set[tl.WindowKey] = set()
        self._kept: dict[int, set[tl.WindowKey]] = {}

    def recover(self, now_s: float) -> None:
        """Take up what the store holds: positions, watermarks, and windows that may not have been pushed."""
        for raw_key, raw in self._store.items(self.number):
            key = tl.decode_key(raw_key)
            if key is None:
                continue
            row = tl.decode_row(raw)
            self.position = max(self.position, row.position)
            self._marks.observe(key.tenant_id, key.start_ms, now_s)
            self._kept.setdefault(key.start_ms, set()).add(key)
            if row.unannounced:
                self._open[key] = row

    def guess_broker(self, wall_ms: int, now_s: float) -> None:
        """Close windows by our own clock while no record shows the broker's."""
        self._marks.guess_broker(wall_ms, now_s)

    def observe_broker(self, record_ms: int, now_s: float) -> None:
        """Note the broker's clock, as a record's timestamp shows it."""
        self._marks.observe_broker(record_ms, now_s)

    def key_of(self, tenant_id: TenantId, tool: str, at_ms: int) -> tl.WindowKey:
        """The window that an event belongs to."""
        return tl.WindowKey(tenant_id, tool, window_start_ms(at_ms, self.rules.size_ms))

    def fold(self, key: tl.WindowKey, at_ms: int, *, offset: int, latency_us: int, error: bool, now_s: float) -> Folded:
        """Count one call of its window `key`; see Folded for what else can become of it."""
        broker_ms = self._marks.broker_ms(now_s)
        if broker_ms and at_ms > broker_ms + self.rules.future_skew_ms:
            return Folded.FUTURE
        if key.start_ms + self.rules.size_ms + self.rules.retention_ms <= self._marks.seen_ms(key.tenant_id, now_s):
            # By the tenant's own events: a backlog after an outage is not old because nothing came meanwhile.
            return Folded.EXPIRED
        row = self._row(key)
        late = row.announced >= 0 or self.is_over(key, now_s)
        if not tl.add(row, offset=offset, latency_us=latency_us, error=error):
            self.forget_finished([key])
            return Folded.REPEAT
        self._marks.observe(key.tenant_id, at_ms, now_s)
        self._dirty.add(key)
        self._kept.setdefault(key.start_ms, set()).add(key)
        self.position = max(self.position, offset)
        return Folded.LATE if late else Folded.COUNTED

    def watermark_ms(self, tenant_id: TenantId, now_s: float) -> int:
        """The tenant's watermark."""
        return self._marks.of(tenant_id, now_s)

    def is_over(self, key: tl.WindowKey, now_s: float) -> bool:
        """Whether the watermark is past the window's end plus the lateness that is waited for."""
        end_ms = key.start_ms + self.rules.size_ms
        return end_ms + self.rules.lateness_ms <= self._marks.of(key.tenant_id, now_s)

    def row(self, key: tl.WindowKey) -> tl.Row | None:
        """A row that is being folded, else the stored one; not to be changed by the caller."""
        held = self._open.get(key)
        if held is not None:
            return held
        raw = self._store.get(self.number, tl.encode_key(key))
        return None if raw is None else tl.decode_row(raw)

    def take_dirty(self) -> dict[tl.WindowKey, tl.Row]:
        """The rows changed since the last call."""
        dirty = {key: self._open[key] for key in self._dirty}
        self._dirty = set()
        return dirty

    def to_announce(self, now_s: float) -> dict[tl.WindowKey, tl.Row]:
        """Windows that are over and hold something not yet pushed."""
        return {key: row for key, row in self._open.items() if row.unannounced and self.is_over(key, now_s)}

    def announced(self, positions: Iterable[tuple[tl.WindowKey, int]]) -> None:
        """These windows were pushed as they stood at these positions; the next flush writes that down."""
        for key, position in positions:
            self._open[key].announced = position
            self._dirty.add(key)

    def forget_finished(self, written: Iterable[tl.WindowKey]) -> None:
        """Leave written rows to the store when nothing more is to come of them."""
        for key in written:
            row = self._open.get(key)
            if row is not None and key not in self._dirty and not row.unannounced:
                del self._open[key]

    def take_expired(self, now_s: float) -> Iterator[tl.WindowKey]:
        """Keys of windows past their retention that have nothing left to announce, each once."""
        for start_ms in sorted(self._kept):
            keys, due_ms = self._kept[start_ms], start_ms + self.rules.size_ms + self.rules.retention_ms
            if due_ms > self._marks.broker_ms(now_s):
                break  # no watermark is past the broker's clock, and later windows are due later
            gone = {k for k in keys if due_ms <= self._marks.seen_ms(k.tenant_id, now_s) and not self._has_news(k)}
            keys -= gone
            if not keys:
                del self._kept[start_ms]
            for key in gone:
                self._open.pop(key, None)
                self._dirty.discard(key)
                yield key

    def _has_news(self, key: tl.WindowKey) -> bool:
        row = self._open.get(key)
        return row is not None and row.unannounced

    def _row(self, key: tl.WindowKey) -> tl.Row:
        row = self._open.get(key)
        if row is None:
            raw = self._store.get(self.number, tl.encode_key(key))
            row = self._open[key] = tl.Row() if raw is None else tl.decode_row(raw)
        return row
