"""Which rows of a partition are past their retention: each is found once, in bounded steps. Pure.

A row is deleted when its window's end is `retention_ms` behind the newest window of its tenant: by event time, never by
the wall clock (a backfill of old events would be deleted as it comes). A tenant of which nothing was heard for longer
than the retention, and whose newest event is further than `forget_ms` behind the broker's clock, is gone: all of its
rows go, and what is known of its clock with them. Silence is what was not heard, not what is old: a tenant that imports
history is not silent.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from tables.rows import WindowKey, tenant_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contracts.names import TenantId
    from tables.row_codec import RowCodec
    from tables.store import RowStore
    from tables.window_index import Place, WindowIndex
    from tables.windows import Watermarks, WindowRules

S = TypeVar("S")

# One step deletes and looks at no more than this, which bounds how long a flush holds the event loop.
MOST_KEYS = 5_000
MOST_STARTS = 1_000
MOST_OF_TENANT = 100
# Tenants are looked through once for each window length of event time, and this often while nothing comes.
QUIET_S = 60.0


class WindowExpiry:
    """Finds the rows to delete of one partition."""

    def __init__(
        self,
        number: int,
        codec: RowCodec[Any],
        store: RowStore,
        has_dirty: Callable[[Place], bool],
        index: WindowIndex,
        marks: Watermarks,
        rules: WindowRules,
    ) -> None:
        self._number = number
        self._codec = codec
        self._store = store
        self._has_dirty = has_dirty
        self._index = index
        self._marks = marks
        self._rules = rules
        self._tenants: deque[TenantId] = deque()
        self._seen_ms = 0
        self._seen_s = float("-inf")

    def take(self, now_s: float) -> list[WindowKey]:
        """Keys of rows to be deleted now, each once; more come with the next call."""
        self._begin_round(now_s)
        gone: list[WindowKey] = []
        for place in self._index.take_set_aside():
            gone += self._keys_of(place)
        looks = MOST_STARTS
        while self._tenants and len(gone) < MOST_KEYS and looks > 0:
            tenant = self._tenants.popleft()
            due = self._index.take_due(tenant, self._due_ms(tenant, now_s), MOST_OF_TENANT)
            looks -= 1 + len(due)
            for start_ms in due:
                gone += self._keys_of((tenant, start_ms))
            if len(due) == MOST_OF_TENANT:
                self._tenants.append(tenant)  # the others first
            else:
                self._let_go(tenant, now_s)
        return gone

    def _begin_round(self, now_s: float) -> None:
        newest_ms = self._marks.newest_ms - self._marks.newest_ms % self._rules.size_ms
        if not self._tenants and (newest_ms > self._seen_ms or now_s - self._seen_s >= QUIET_S):
            self._seen_ms, self._seen_s = newest_ms, now_s
            self._tenants.extend(self._index.tenants())

    def _due_ms(self, tenant: TenantId, now_s: float) -> int:
        """The last window start of a tenant that is past its retention."""
        newest_ms = self._marks.newest_start_ms(tenant, self._rules.size_ms)
        if newest_ms is None:
            return -1
        if self._is_gone(tenant, now_s):
            return newest_ms
        return newest_ms - self._rules.size_ms - self._rules.retention_ms

    def _is_gone(self, tenant: TenantId, now_s: float) -> bool:
        silent_s = self._rules.retention_ms / 1000
        return self._marks.is_gone(tenant, now_s, behind_ms=self._rules.forget_ms, silent_s=silent_s)

    def _let_go(self, tenant: TenantId, now_s: float) -> None:
        """Forget a tenant that has gone and has nothing left to tell."""
        newest_ms = self._marks.newest_start_ms(tenant, self._rules.size_ms)
        if newest_ms is not None and self._is_gone(tenant, now_s) and not self._index.is_set_aside(tenant):
            self._index.forget(tenant)
            self._marks.forget(tenant)

    def _keys_of(self, place: Place) -> Iterator[WindowKey]:
        """The rows of a place, unless one of them is to be told or written; then it is looked at again."""
        if self._index.has_untold(place) or self._has_dirty(place):
            self._index.set_aside(place)
            return
        tenant, start_ms = place
        lower, upper = tenant_bounds(self._codec.kind.kind, len(self._codec.kind.parts), start_ms, tenant)
        for raw, _ in self._store.scan(self._number, lower, upper):
            key = self._codec.decode_key(raw)
            if key is not None:
                yield key
