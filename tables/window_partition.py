"""One partition of a table of windows in memory: rows being folded, watermarks, and which windows are over.

Where it stands: between an agent's work (`agents.window_work`: decoding, messages) and a table's fold. Pure; the caller
gives monotonic time.

Exactness under repeats: a record at or below a row's position is in the row already. When a chunk begins above every
row's position (`self.position`) nothing in it can be a repeat: its contributions wait, as columns, until `apply` groups
them by row, folds all groups at once and stamps each row with `self.position`. That is exact because everything up to
that position waits or is in the rows, and nothing looks at a row before `apply`. Else each record is held against its
row, and what is left is folded at once and stamped with the chunk's last offset: what stands beyond it may be missing
in these rows. Both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from contracts.names import TenantId
from tables.columns import Contributions, NumberColumn
from tables.fold import Samples, TableKind, chosen, contributions, newest_by_tenant
from tables.row_cache import RowCache
from tables.row_codec import Row, RowCodec
from tables.rows import WindowKey, header_of
from tables.store import Change, RowStore
from tables.window_expiry import WindowExpiry
from tables.window_index import WindowIndex
from tables.window_outcome import Folded, Outcome
from tables.windows import Watermarks, WindowRules, window_start_ms

S = TypeVar("S")

DEFAULT_CACHE_BYTES = 64 * 1024 * 1024


class WindowPartition(Generic[S]):
    """Rows of one partition; `number` is both the source's and the changelog's partition."""

    def __init__(
        self,
        number: int,
        kind: TableKind[S],
        rules: WindowRules,
        store: RowStore,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        *,
        base: int = 0,
    ) -> None:
        """`base` is added to offsets to make positions (`tables.incarnations`)."""
        self.number = number
        self.kind = kind
        self.rules = rules
        self.marks = Watermarks(idle_s=rules.idle_s)
        self._base = base
        self.position = -1
        """No row holds a record above it."""
        self._codec: RowCodec[S] = RowCodec(kind)
        self._store = store
        self._rows = RowCache(number, self._codec, store, cache_bytes)
        self._waiting: list[Contributions] = []
        self._touched: dict[WindowKey, Row[S]] = {}
        self._index = WindowIndex(rules.size_ms)
        self._expiry = WindowExpiry(number, self._codec, store, self._rows.has_dirty, self._index, self.marks, rules)

    def recover(self, now_s: float) -> None:
        """Take up what the store holds: positions, watermarks, and windows that may not have been pushed."""
        for raw_key, raw in self._store.items(self.number):
            key = self._codec.decode_key(raw_key)
            if key is None:
                continue
            header = header_of(raw)
            self.position = max(self.position, header.position)
            self.marks.observe(key.tenant_id, key.start_ms, now_s)
            self._index.add(key)
            if header.position > header.announced:
                self._index.changed(key)

    # --- folding ---------------------------------------------------------------------------------------------------

    def fold(self, samples: Samples, offsets: Sequence[int], record_ms: Sequence[int], now_s: float) -> Outcome:
        """Take in the samples of a chunk.

        `offsets` and `record_ms` (record timestamps) are of the records that `samples.indexes` point into. Every tenant
        is given. The chunk's records were not folded in part before: a chunk is taken whole.
        """
        if not samples:
            return Outcome()
        last = self._base + offsets[samples.indexes[-1]]
        repeats = self._base + offsets[samples.indexes[0]] <= self.position
        if repeats:
            self.apply_waiting()
        suspects = np.ones(len(samples.at_ms), np.bool_) if repeats else self._suspects(samples, record_ms)
        outcome = Outcome()
        if suspects.any():
            samples = chosen(samples, self._counted(samples, suspects, offsets, record_ms, now_s, outcome))
        if samples:
            self._fold_groups(samples, now_s, outcome)
        if repeats:
            self._apply_waiting(last)
        self.position = max(self.position, last)
        return outcome

    def apply(self) -> list[tuple[WindowKey, Row[S]]]:
        """Fold what waits in groups; gives the rows changed since the last call, each once. Call it before reading."""
        self.apply_waiting()
        touched, self._touched = self._touched, {}
        return list(touched.items())

    def _suspects(self, samples: Samples, record_ms: Sequence[int]) -> NDArray[np.bool_]:
        """Samples of tenants with an event that may be too late or too early; they are looked at one by one, in order.

        Shape (n,).
        """
        at_ms, rules = samples.at_ms, self.rules
        newest_start_ms = window_start_ms(max(int(at_ms.max()), self.marks.newest_ms), rules.size_ms)
        oldest_record_ms = min(record_ms[samples.indexes[0] : samples.indexes[-1] + 1])
        apart = (at_ms <= newest_start_ms - rules.accept_late_ms) | (at_ms > oldest_record_ms + rules.future_skew_ms)
        if not apart.any():
            return apart
        names = samples.book.names
        tenants = {names[code][0] for code in samples.codes[apart].tolist()}
        codes = [code for code in np.unique(samples.codes).tolist() if names[code][0] in tenants]
        return np.isin(samples.codes, codes)

    def _fold_groups(self, samples: Samples, now_s: float, outcome: Outcome) -> None:
        if self._waiting and self._waiting[0].book is not samples.book:
            self.apply_waiting()
        arriving = contributions(samples, self.rules.size_ms)
        self._waiting.append(arriving)
        for tenant, newest_ms in newest_by_tenant(samples).items():
            self.marks.observe(tenant, newest_ms, now_s)
        # Hardly any chunk has an event for a window that is over.
        oldest_end_ms = int(arriving.starts_ms.min()) + self.rules.size_ms
        if oldest_end_ms + self.rules.lateness_ms <= self.marks.newest_ms:
            outcome.late_count += sum(size for key, size in arriving.sizes() if self._is_late(key, now_s))

    def apply_waiting(self) -> None:
        """Fold what waits in groups.

        Raises:
            ValueError: a row's format has another meaning here. Everything waits on.
        """
        self._apply_waiting(self.position)

    def _apply_waiting(self, position: int) -> None:
        if not self._waiting:
            return
        first, *others = self._waiting
        keys, bounds, values = first.followed_by(others).grouped()
        rows = list(map(self._touch, keys))  # before anything is changed: a row may be unreadable
        self._waiting = []
        for row in rows:
            row.position, row.packed = position, b""
        self.kind.fold.add_each([row.state for row in rows], bounds, values)

    def _counted(
        self,
        samples: Samples,
        suspects: NDArray[np.bool_],
        offsets: Sequence[int],
        record_ms: Sequence[int],
        now_s: float,
        outcome: Outcome,
    ) -> NumberColumn:
        """Places of the samples that are to be counted; what becomes of the other suspects is noted in `outcome`."""
        indexes, names, at = samples.indexes, samples.book.names, samples.at_ms
        keep = np.ones(len(suspects), np.bool_)
        positions: dict[WindowKey, int] = {}
        for place in np.flatnonzero(suspects).tolist():
            index, (tenant, subject), at_ms = indexes[place], names[samples.codes[place]], int(at[place])
            assert tenant is not None  # noqa: S101 - the caller has filled them in
            key = WindowKey(tenant, subject, window_start_ms(at_ms, self.rules.size_ms))
            if key not in positions:
                positions[key] = self._rows.position(key)
            if at_ms > record_ms[index] + self.rules.future_skew_ms:
                became = Folded.FUTURE
            elif self._base + offsets[index] <= positions[key]:
                became = Folded.REPEAT
            elif self.is_expired(key):
                became = Folded.EXPIRED
            else:
                self.marks.observe(tenant, at_ms, now_s)
                continue
            outcome.apart.append((place, became))
            keep[place] = False
        return np.flatnonzero(keep)

    def is_expired(self, key: WindowKey) -> bool:
        """Whether an event for this window comes too late to be counted: decided by the log alone."""
        newest_ms = self.marks.newest_start_ms(key.tenant_id, self.rules.size_ms)
        return newest_ms is not None and key.start_ms + self.rules.size_ms + self.rules.accept_late_ms <= newest_ms

    def touch_again(self, key: WindowKey) -> Row[S]:
        """The row, to be changed by a record that stands below its position: a dead letter that came back.

        Its revision rises, so that a window that was told of is told of again. `apply_waiting` comes first.
        """
        row = self._touch(key)
        row.position = max(row.position, self.position)
        row.returned += 1
        row.announced, row.packed = min(row.announced, row.position - 1), b""
        return row

    def replace(self, key: WindowKey, row: Row[S]) -> None:
        """Put a recomputed row in a row's place, to be written and told by the next flush.

        Its position says up to where the source was read for it: records up to there are in it, if they are its own.
        """
        self.apply_waiting()
        self._rows.put(key, row)
        self._index.add(key)
        if row.unannounced:
            self._index.changed(key)
        self.position = max(self.position, row.position)

    # --- reading ---------------------------------------------------------------------------------------------------

    def row(self, key: WindowKey) -> Row[S] | None:
        """A row as of the last `apply`, flushed or not; not to be changed by the caller."""
        return self._rows.get(key)

    def watermark_ms(self, tenant_id: TenantId, now_s: float) -> int:
        """The tenant's watermark."""
        return self.marks.of(tenant_id, now_s)

    def is_over(self, key: WindowKey, now_s: float) -> bool:
        """Whether the watermark is past the window's end plus the lateness that is waited for."""
        end_ms = key[2] + self.rules.size_ms
        return end_ms + self.rules.lateness_ms <= self.marks.of(key[0], now_s)

    def encode_key(self, key: WindowKey) -> bytes:
        """A key's bytes."""
        return self._codec.encode_key(key)

    def decode(self, raw: bytes) -> Row[S]:
        """A row of its bytes. Raises ValueError when the format has another meaning here."""
        return self._codec.decode(raw)

    # --- flushing --------------------------------------------------------------------------------------------------

    def take_dirty(self) -> dict[WindowKey, Row[S]]:
        """The rows changed since the last call."""
        self.apply_waiting()
        return self._rows.take_dirty()

    def changes(self, dirty: dict[WindowKey, Row[S]]) -> list[Change]:
        """Rows as bytes, older windows first."""
        return self._rows.changes(dirty)

    def to_announce(self, now_s: float) -> dict[WindowKey, Row[S]]:
        """Windows that are over and hold something not yet pushed."""
        newest_ms = max(self.marks.newest_ms, self.marks.broker_ms(now_s))
        due_ms = newest_ms - self.rules.size_ms - self.rules.lateness_ms
        due = [key for key in self._index.untold_until(due_ms) if self.is_over(key, now_s)]
        return {key: row for key in due if (row := self.row(key)) is not None}

    def announced(self, revisions: Iterable[tuple[WindowKey, int]]) -> None:
        """These windows were pushed as they stood at these revisions; the next flush writes that down."""
        for key, revision in revisions:
            row = self._rows.touch(key)
            # Not told of what has come back since.
            row.announced = revision - 1 - row.returned
            if not row.unannounced:
                self._index.told(key)

    def settle(self) -> None:
        """What was taken is written: rows beyond the cache's size are dropped."""
        self._rows.settle()

    def take_expired(self, now_s: float) -> list[WindowKey]:
        """Windows past their retention, or of a tenant that has gone, that have nothing left to tell; each once."""
        gone = self._expiry.take(now_s)
        self._rows.delete(gone)
        return gone

    # --- inside ----------------------------------------------------------------------------------------------------

    def _is_late(self, key: WindowKey, now_s: float) -> bool:
        return self.is_over(key, now_s) or ((row := self._rows.get(key)) is not None and row.announced >= 0)

    def _touch(self, key: WindowKey) -> Row[S]:
        """The row, which is about to change; one with untold news is noted already."""
        row = self._touched[key] = self._rows.touch(key)
        if not row.unannounced:
            self._index.changed(key)
        return row
