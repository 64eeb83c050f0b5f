"""Holding a lease: renewed at a third of its time, and given up in time when Redis does not confirm it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contracts.errors import ServerMissing

if TYPE_CHECKING:
    from runtime.clock import Clock
    from streams.leases import Lease, Leases

_RENEW_RATIO = 1 / 3
_RETRY_S = 0.2


class LeaseKeeper:
    """Our side of a lease.

    It ends here before it ends in Redis: its time counts from `asked_s`, the monotonic seconds just before the
    lease was asked for.
    """

    def __init__(self, leases: Leases, lease: Lease, ttl_s: float, clock: Clock, *, asked_s: float) -> None:
        self._leases = leases
        self._lease = lease
        self._ttl_s = ttl_s
        self._clock = clock
        self._until_s = asked_s + ttl_s

    def holds(self) -> bool:
        """Whether the lease is surely ours at this moment."""
        return self._clock.monotonic_s() < self._until_s

    async def keep(self) -> None:
        """Renew until the lease is lost, then return; bounded by the lease's time when Redis is silent."""
        while self.holds():
            try:
                async with asyncio.timeout(self._until_s - self._clock.monotonic_s()):
                    await asyncio.sleep(self._ttl_s * _RENEW_RATIO)
                    if not await self._renew():
                        return
            except TimeoutError:
                return

    async def _renew(self) -> bool:
        while True:
            asked_s = self._clock.monotonic_s()
            try:
                held = await self._leases.renew(self._lease, self._ttl_s)
            except ServerMissing:
                await asyncio.sleep(_RETRY_S)
                continue
            if held:
                self._until_s = asked_s + self._ttl_s
            return held
