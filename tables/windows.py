"""Event time: which window an event belongs to, and when a window is over.

One watermark for each tenant of a partition, so that one tenant's fast clock makes nobody else's events late. It is

    the newest event time seen, but never ahead of the broker's clock;
    once the tenant has been silent for `idle_s`: the broker's clock minus `idle_s`, so that its last windows close.

The broker's clock is the newest record timestamp of the partition, moved on by our own monotonic clock in between.
After a restart without new records it is unknown; our own wall clock stands in for it until a record comes.
Times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.names import TenantId


def window_start_ms(at_ms: int, size_ms: int) -> int:
    """Start of the tumbling window that holds `at_ms`; windows are aligned to the epoch, negative times included."""
    return at_ms - at_ms % size_ms


@dataclass(slots=True)
class _Tenant:
    newest_ms: int
    heard_s: float


class Watermarks:
    """The watermarks of all tenants of one partition."""

    def __init__(self, *, idle_s: float) -> None:
        self._idle_s = idle_s
        self._tenants: dict[TenantId, _Tenant] = {}
        self._broker_ms = 0
        self._broker_heard_s = 0.0
        self._broker_is_guessed = False

    def guess_broker(self, wall_ms: int, now_s: float) -> None:
        """Take our own wall clock for the broker's, unless that is known."""
        if self._broker_ms == 0:
            self._broker_ms, self._broker_heard_s, self._broker_is_guessed = wall_ms, now_s, True

    def observe_broker(self, record_ms: int, now_s: float) -> None:
        """Note a record's broker timestamp, at monotonic time `now_s`."""
        if self._broker_is_guessed or record_ms > self.broker_ms(now_s):
            self._broker_ms, self._broker_heard_s, self._broker_is_guessed = record_ms, now_s, False

    def observe(self, tenant: TenantId, at_ms: int, now_s: float) -> None:
        """Note an event's time, at monotonic time `now_s`."""
        seen = self._tenants.get(tenant)
        if seen is None:
            self._tenants[tenant] = _Tenant(at_ms, now_s)
            return
        seen.heard_s = now_s
        seen.newest_ms = max(seen.newest_ms, at_ms)

    def broker_ms(self, now_s: float) -> int:
        """The broker's clock as far as we know it; 0 before the first record."""
        if self._broker_ms == 0:
            return 0
        return self._broker_ms + int(1000 * (now_s - self._broker_heard_s))

    def seen_ms(self, tenant: TenantId, now_s: float) -> int:
        """The watermark without the push of idleness: how far the tenant's own events have come."""
        seen = self._tenants.get(tenant)
        return 0 if seen is None else min(seen.newest_ms, self.broker_ms(now_s) or seen.newest_ms)

    def of(self, tenant: TenantId, now_s: float) -> int:
        """The tenant's watermark; 0 when nothing is known of it. Without broker time only event time counts."""
        seen = self._tenants.get(tenant)
        if seen is None:
            return 0
        broker_ms = self.broker_ms(now_s)
        if broker_ms == 0:
            return seen.newest_ms
        mark_ms = min(seen.newest_ms, broker_ms)
        if now_s - seen.heard_s >= self._idle_s:
            mark_ms = max(mark_ms, broker_ms - int(1000 * self._idle_s))
        return mark_ms
