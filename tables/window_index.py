"""Which windows of a partition are there, which of them have something to tell, and which are to be deleted. Pure.

Memory: two numbers for each stretch of windows of a tenant, and one key for each row that is still to be told.

Deletion goes tenant by tenant, from its oldest window on: window starts are looked at in turn, each once, when they
have fallen behind the tenant's own retention. So a tenant whose clock is ahead or behind costs nobody else a look. A
start that still has something to tell is set aside and looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator

from contracts.names import TenantId
from tables.rows import WindowKey
from tables.start_ranges import StartRanges

# A window start of one tenant.
Place = tuple[TenantId, int]


class WindowIndex:
    """Windows of tenants, and keys of rows whose last change has not been pushed."""

    def __init__(self, size_ms: int) -> None:
        self._size_ms = size_ms
        self._starts: dict[TenantId, StartRanges] = {}
        self._untold: dict[int, set[WindowKey]] = {}
        self._again: set[Place] = set()

    def add(self, key: WindowKey) -> None:
        """There is a row of this window."""
        starts = self._starts.get(key.tenant_id)
        if starts is None:
            starts = self._starts[key.tenant_id] = StartRanges(self._size_ms)
        starts.add(key.start_ms)

    def changed(self, key: WindowKey) -> None:
        """The row holds something that has not been told."""
        self.add(key)
        self._untold.setdefault(key.start_ms, set()).add(key)

    def told(self, key: WindowKey) -> None:
        """All that the row holds has been told."""
        untold = self._untold.get(key.start_ms)
        if untold is not None:
            untold.discard(key)
            if not untold:
                del self._untold[key.start_ms]

    def untold_until(self, last_ms: int) -> Iterator[WindowKey]:
        """Keys with something to tell whose windows start at `last_ms` or before, oldest first."""
        for start_ms in sorted(start for start in self._untold if start <= last_ms):
            yield from self._untold[start_ms]

    def tenants(self) -> list[TenantId]:
        """Tenants that have or had windows."""
        return list(self._starts)

    def take_due(self, tenant: TenantId, last_ms: int, count: int) -> list[int]:
        """Up to `count` window starts of a tenant up to `last_ms`, oldest first, each once."""
        starts = self._starts.get(tenant)
        return [] if starts is None else starts.take(last_ms, count)

    def set_aside(self, place: Place) -> None:
        """A start that was taken still has something to tell."""
        self._again.add(place)

    def is_set_aside(self, tenant: TenantId) -> bool:
        """Whether a place of this tenant is to be looked at again."""
        return any(place[0] == tenant for place in self._again)

    def take_set_aside(self) -> set[Place]:
        """What was set aside since the last call."""
        again, self._again = self._again, set()
        return again

    def has_untold(self, place: Place) -> bool:
        """Whether a row of this place has something to tell."""
        tenant, start_ms = place
        return any(key.tenant_id == tenant for key in self._untold.get(start_ms, ()))

    def forget(self, tenant: TenantId) -> None:
        """No row of this tenant is left."""
        self._starts.pop(tenant, None)
