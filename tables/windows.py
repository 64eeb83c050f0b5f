"""Event time: which window an event belongs to, and when a window is over. Pure.

Times are milliseconds since the Unix epoch. Two questions, with two clocks:

*Is an event still to be counted?* Decided by the log alone, so that a restart, another worker or a replay decides the
same: by the newest window of its tenant in its partition (`newest_start_ms`). One tenant's fast clock makes nobody
else's events late, and an event further ahead of its own record than `future_skew_ms` never moves it. Our own wall
clock has no say in that, although a producer's clock may date its records ahead too (the mirror's own are dated by the
mirror): an event that it found too far ahead would be buried, and counted when the record comes again a minute later.

*Is a window over, so that it can be told?* Decided by the tenant's watermark, which time moves on:

    the newest event time seen, but never ahead of the broker's clock;
    once the tenant has been silent for `idle_s`: the broker's clock minus `idle_s`, so that its last windows close.

The broker's clock is the newest record timestamp of the partition, moved on by our own clock in between: the furthest
ahead of the last one to two CLOCK_S in which records came, so that one producer whose clock is fast does not put it
ahead for good. After a restart without new records it is unknown; our own wall clock stands in for it until a record
comes.

Seconds are of a clock that runs while the reader is at the log's end (`agents.listening`): time in which nothing could
be heard is not silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.names import TenantId

if TYPE_CHECKING:
    from runtime.settings import WorkerSettings
    from runtime.settings_tables import TableSettings


@dataclass(frozen=True)
class WindowRules:
    """Lengths in milliseconds of event time, except `idle_s` (seconds of silence)."""

    size_ms: int
    retention_ms: int
    lateness_ms: int
    accept_late_ms: int
    future_skew_ms: int
    idle_s: float

    @property
    def forget_ms(self) -> int:
        """A tenant that has been silent for this long, by the broker's clock, is forgotten with all of its rows."""
        return max(2 * self.retention_ms, 86_400_000)


def rules_of(table: TableSettings, worker: WorkerSettings) -> WindowRules:
    """A table's lengths, as its partitions take them."""
    return WindowRules(
        size_ms=1000 * table.window_s,
        retention_ms=1000 * table.retention_s,
        lateness_ms=int(1000 * table.lateness_s),
        accept_late_ms=int(1000 * min(table.accept_late_s, table.retention_s)),
        future_skew_ms=int(1000 * worker.future_skew_s),
        idle_s=worker.idle_close_s,
    )


def window_start_ms(at_ms: int, size_ms: int) -> int:
    """Start of the tumbling window that holds `at_ms`; windows are aligned to the epoch, negative times included."""
    return at_ms - at_ms % size_ms


@dataclass(slots=True)
class _Tenant:
    newest_ms: int
    heard_s: float


# A record's timestamp counts for the broker's clock for this long, and until the next record after that.
CLOCK_S = 60.0


class Watermarks:
    """The watermarks of all tenants of one partition."""

    def __init__(self, *, idle_s: float) -> None:
        self._idle_s = idle_s
        self._tenants: dict[TenantId, _Tenant] = {}
        # How far record timestamps are ahead of our seconds: the most since `_begun_s`, and in the time before.
        self._ahead_ms: int | None = None
        self._before_ms = 0
        self._begun_s = 0.0
        self._broker_is_guessed = False
        self.newest_ms = 0
        """The newest event time of any tenant."""

    def guess_broker(self, wall_ms: int, now_s: float) -> None:
        """Take our own wall clock for the broker's, unless that is known."""
        if self._ahead_ms is None:
            self.observe_broker(wall_ms, now_s)
            self._broker_is_guessed = True

    def observe_broker(self, record_ms: int, now_s: float) -> None:
        """Note a record's timestamp, heard at `now_s`."""
        ahead_ms = record_ms - int(1000 * now_s)
        passed_s = now_s - self._begun_s
        if self._ahead_ms is None or self._broker_is_guessed or passed_s >= 2 * CLOCK_S:
            self._ahead_ms = self._before_ms = ahead_ms
            self._begun_s, self._broker_is_guessed = now_s, False
        elif passed_s >= CLOCK_S:
            self._ahead_ms, self._before_ms, self._begun_s = ahead_ms, self._ahead_ms, now_s
        else:
            self._ahead_ms = max(self._ahead_ms, ahead_ms)

    def observe(self, tenant: TenantId, at_ms: int, now_s: float) -> None:
        """Note an event's time, heard at `now_s`."""
        seen = self._tenants.get(tenant)
        if seen is None:
            seen = self._tenants[tenant] = _Tenant(at_ms, now_s)
        seen.heard_s = now_s
        seen.newest_ms = max(seen.newest_ms, at_ms)
        self.newest_ms = max(self.newest_ms, at_ms)

    def broker_ms(self, now_s: float) -> int:
        """The broker's clock as far as we know it; 0 before the first record."""
        return 0 if self._ahead_ms is None else max(self._ahead_ms, self._before_ms) + int(1000 * now_s)

    def newest_start_ms(self, tenant: TenantId, size_ms: int) -> int | None:
        """The start of the tenant's newest window of `size_ms`; None when nothing is known of it."""
        seen = self._tenants.get(tenant)
        return None if seen is None else window_start_ms(seen.newest_ms, size_ms)

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

    def is_gone(self, tenant: TenantId, now_s: float, *, behind_ms: int, silent_s: float) -> bool:
        """Whether a tenant was not heard for `silent_s` and its newest event is `behind_ms` behind the broker's clock.

        Never while that clock is only guessed.
        """
        seen = self._tenants.get(tenant)
        return (
            seen is not None
            and not self._broker_is_guessed
            and now_s - seen.heard_s >= silent_s
            and self.broker_ms(now_s) - seen.newest_ms > behind_ms
        )

    def forget(self, tenant: TenantId) -> None:
        """Drop a tenant that has gone."""
        self._tenants.pop(tenant, None)
