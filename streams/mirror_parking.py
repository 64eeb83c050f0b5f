"""Quotas of tenants at the mirror: what is over waits in a stream of its tenant, so that nobody else waits with it.

Where it stands: `streams.mirror_session` asks here for each batch; `streams.parked` is where entries wait. A tenant's
order is kept: while entries of it wait, all that come behind them wait too.

    direct --an entry over its quota--> parked --its stream is empty--> direct

The quota is this owner's: a new owner of the stream begins with full bursts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from reliability.limiter import LocalLimiter, Rate, Want
from streams.mirror_plan import START
from streams.parked import Parked, Waiting

if TYPE_CHECKING:
    from contracts.names import Stream
    from streams.leases import Lease
    from streams.mirror_record import Mirrored
    from streams.mirror_shared import Shared
    from streams.redis_log import Entry


def split(
    fresh: Iterable[tuple[Mirrored, Entry]], parked: set[str], may_go: Callable[[str], bool]
) -> tuple[list[Mirrored], list[Waiting]]:
    """What goes on to Kafka and what waits, both in the given order; `parked` gains the tenants that wait from now."""
    going, waiting = [], []
    for made, entry in fresh:
        if made.tenant in parked or not may_go(made.tenant):
            parked.add(made.tenant)
            waiting.append(Waiting(made.tenant, entry))
        else:
            going.append(made)
    return going, waiting


class Parking:
    """Who waits in one stream, for one owner."""

    def __init__(self, shared: Shared, stream: Stream, lease: Lease) -> None:
        self._settings = shared.settings.mirror
        self._leases = shared.leases
        self._lease = lease
        self._parked = Parked(shared.redis, shared.settings.prefix, stream.value)
        self._metrics = shared.metrics
        self._stream = stream
        self._limiter = LocalLimiter(shared.clock)
        self._counts: dict[str, int] = {}
        self._on = self._settings.tenant_entries_per_s > 0 or bool(self._settings.tenant_quotas)

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._counts

    async def begin(self) -> None:
        """Learn who waits since earlier owners. Raises ServerMissing."""
        self._counts = await self._parked.tenants()
        self._tell()

    def split(self, fresh: list[tuple[Mirrored, Entry]]) -> tuple[list[Mirrored], list[Waiting]]:
        """What goes on to Kafka now, and what waits; nothing is stored yet."""
        if not self._on and not self._counts:
            return [made for made, _entry in fresh], []
        return split(fresh, set(self._counts), self._may_go)

    async def store(self, position: Mapping[str, str | int], waiting: Sequence[Waiting]) -> bool:
        """Store the position, with what waits set aside in the same step; False when the lease was lost."""
        if not waiting:
            return await self._leases.write_position(self._lease, position)
        if not await self._parked.park(self._lease, position, waiting):
            return False
        for tenant, _entry in waiting:
            self._counts[tenant] = self._counts.get(tenant, 0) + 1
        self._metrics.entries.labels(self._stream.value, "parked").inc(len(waiting))
        self._tell()
        return True

    async def due(self, most: int) -> list[Waiting]:
        """Up to `most` entries that may go on now, each tenant's oldest first; their quota is charged."""
        found: list[Waiting] = []
        for tenant, count in list(self._counts.items()):
            allowed = 0
            while allowed < min(count, most - len(found)) and self._may_go(tenant):
                allowed += 1
            if allowed:
                entries = await self._parked.first(tenant, allowed)
                found += (Waiting(tenant, entry) for entry in entries)
                # Whoever had a turn is behind the others at the next.
                self._counts[tenant] = self._counts.pop(tenant)
                if not entries:  # somebody removed them by hand
                    await self._parked.drop(self._lease, {tenant: str(START)})
                    del self._counts[tenant]
        return found

    async def drop(self, done: Sequence[Waiting]) -> bool:
        """Forget entries that Kafka has; False when the lease was lost."""
        if not await self._parked.drop(self._lease, {tenant: entry.id for tenant, entry in done}):
            return False
        for tenant, _entry in done:
            self._counts[tenant] -= 1
            if self._counts[tenant] <= 0:
                del self._counts[tenant]
        self._tell()
        return True

    def _may_go(self, tenant: str) -> bool:
        per_s = self._settings.quota_of(tenant)
        if per_s <= 0:
            return True
        burst = max(1, round(per_s * self._settings.tenant_burst_s))
        return self._limiter.take([Want("tenant", (tenant,), Rate(per_s, burst))]).allowed

    def _tell(self) -> None:
        self._metrics.parked_entries.labels(self._stream.value).set(sum(self._counts.values()))
        self._metrics.parked_tenants.labels(self._stream.value).set(len(self._counts))
