"""Quotas of tenants at the relay: so many rows a second each, shared by all relays through one bucket a tenant.

A bucket holds `burst` rows at most and fills at the tenant's rate:

    available = min(burst, left + rate * (now - at));   a take gets min(asked, floor(available)) and leaves the rest

It is taken in a transaction of its own, so that relays do not wait for each other's batches. What a batch that failed
has taken is gone: a tenant gets a little less then, never more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from contracts.errors import ServerMissing
from streams import postgres

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import PostgresSettings
    from runtime.settings_relay import RelaySettings
    from streams.postgres import Connection

# After a take that got less than it asked for, the tenant's queue rests, so that rows go in batches; and for longer,
# new rows go to its end instead of taking what the older ones wait for.
_REST_S = 0.05
_SHORT_S = 1.0

_AVAILABLE = """least(excluded.burst_rows,
    b.left_rows + excluded.rows_per_s * greatest(0, extract(epoch FROM excluded.at - b.at)::double precision))"""
_GRANTED = f"least(excluded.granted, floor({_AVAILABLE})::integer)"
# In order of tenant: two relays that take for the same ones wait for each other, never both.
_TAKE = f"""
INSERT INTO headrace.tenant_bucket AS b (tenant_id, rows_per_s, burst_rows, left_rows, at, granted)
SELECT w.tenant_id, w.rate, w.burst, w.burst - least(w.asked, floor(w.burst)), clock_timestamp(),
    least(w.asked, floor(w.burst)::integer)
FROM unnest($1::text[], $2::double precision[], $3::double precision[], $4::integer[])
    AS w(tenant_id, rate, burst, asked)
ORDER BY w.tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET rows_per_s = excluded.rows_per_s, burst_rows = excluded.burst_rows,
    left_rows = {_AVAILABLE} - {_GRANTED}, at = greatest(b.at, excluded.at), granted = {_GRANTED}
RETURNING tenant_id, granted"""  # noqa: S608  # only constants of this module


class TenantQuota:
    """The quotas of one relay. It owns its connection."""

    def __init__(self, settings: RelaySettings, postgres_settings: PostgresSettings, clock: Clock) -> None:
        self._settings = settings
        self._postgres = postgres_settings
        self._clock = clock
        self._connection: Connection | None = None
        # When a tenant got less than it asked for.
        self._short_s: dict[str, float] = {}

    async def take(self, asked: Mapping[str, int]) -> dict[str, int]:
        """How many of the rows asked for each tenant may publish now. Raises ServerMissing."""
        if not asked:
            return {}
        try:
            granted = await self._taken(asked)
        except ServerMissing:
            await self.close()
            raise
        now_s = self._clock.monotonic_s()
        self._short_s |= {name: now_s for name, rows in asked.items() if granted[name] < rows}
        return granted

    def due(self, queues: Iterable[str]) -> list[str]:
        """Those of the tenants whose held rows may be looked at again."""
        now_s = self._clock.monotonic_s()
        self._short_s = {name: at_s for name, at_s in self._short_s.items() if now_s < at_s + _SHORT_S}
        return [name for name in queues if now_s >= self._short_s.get(name, -_REST_S) + _REST_S]

    def limited(self, queues: Iterable[str]) -> frozenset[str]:
        """Those of the tenants that got less than they asked for a moment ago: their new rows stand in the queue."""
        return frozenset(name for name in queues if name in self._short_s)

    async def close(self) -> None:
        """Close the connection; `take` opens one again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await postgres.close(connection)

    async def _taken(self, asked: Mapping[str, int]) -> dict[str, int]:
        if self._connection is None:
            self._connection = await postgres.connect(self._postgres, name="headrace-relay-quota", durable=False)
        names = sorted(asked)
        rates = [self._settings.quota_of(name) for name in names]
        bursts = [max(1.0, rate * self._settings.tenant_burst_s) for rate in rates]
        with postgres.translated(self._postgres):
            rows = await self._connection.fetch(_TAKE, names, rates, bursts, [asked[name] for name in names])
        return {row["tenant_id"]: row["granted"] for row in rows}
