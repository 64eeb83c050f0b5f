"""Which windows of a partition are there, which of them have something to tell, and which are to be deleted. Pure.

Memory: two numbers for each tenant, and one key for each row that is still to be told.

Deletion goes tenant by tenant, from its oldest window on: window starts are looked at in turn, each once, when they
have fallen behind the tenant's own retention. So a tenant whose clock is ahead or behind costs nobody else a look. A
start that still has something to tell is set aside and looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator

from contracts.names import TenantId
from tables.rows import WindowKey

# A window start of one tenant.
Place = tuple[TenantId, int]


class WindowIndex:
    """Oldest windows of tenants, and keys of rows whose last change has not been pushed."""

    def __init__(self, size_ms: int) -> None:
        self._size_ms = size_ms
        self._oldest: dict[TenantId, int] = {}
        self._untold: dict[int, set[WindowKey]] = {}
        self._again: set[Place] = set()

    def add(self, key: WindowKey) -> None:
        """There is a row of this window."""
        oldest = self._oldest.get(key.tenant_id)
        if oldest is None or key.start_ms < oldest:
            self._oldest[key.tenant_id] = key.start_ms

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
        """Tenants with windows that have not been looked at for deletion."""
        return list(self._oldest)

    def take_due(self, tenant: TenantId, last_ms: int, count: int) -> list[int]:
        """Up to `count` window starts of a tenant up to `last_ms`, oldest first, each once."""
        oldest = self._oldest.get(tenant)
        if oldest is None or oldest > last_ms:
            return []
        due = list(range(oldest, last_ms + 1, self._size_ms)[:count])
        self._oldest[tenant] = due[-1] + self._size_ms
        return due

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
        self._oldest.pop(tenant, None)
