"""The end of a `headrace dev --duration` run: wait until everything has arrived, then compare.

Waiting ends early when nothing is missing any more; a deadline makes the wait finite, and what has not arrived by
then counts as lost or wrong. An order event must reach the client; a window must hold what the recount says and be
closed, and the client must have been told the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headrace.devkit import http, recount, report
from headrace.devkit.evidence import ALERT_RAISED, ALERT_RESOLVED, Evidence
from headrace.devkit.recount import WindowKey
from runtime.clock import Clock

# Above the worst case of a killed worker: its session (6 s), a rebalance, recovery, and a client's pause of 5 s.
DELIVERY_DEADLINE_S = 40.0
# A window's end is up to 10 s away, then lateness and idle time; and perhaps a rebalance before that.
WINDOWS_DEADLINE_S = 60.0
DELIVERY_POLL_S = 0.1
TABLE_POLL_S = 0.5
# A message that comes twice comes within this time of its twin.
REPEAT_WATCH_S = 1.0


@dataclass(frozen=True)
class Tables:
    """How to read the workers' tables. `since_ms`: windows that start before it belong to an earlier run as well."""

    client: http.Client
    urls: Sequence[str]
    tokens: dict[str, str]
    window_s: int
    since_ms: int = 0

    async def rows(self) -> list[dict[str, object]] | None:
        """All rows, or None when a worker cannot say now."""
        return await http.all_rows(self.client, self.urls, self.tokens)


async def first_clean_window_ms(tables: Tables) -> int:
    """The earliest window start that no earlier run can have put anything into."""
    rows = await tables.rows() or []
    starts = [recount.row_key(row).start_ms for row in rows]
    return max(starts) + tables.window_s * 1000 if starts else 0


async def until_delivered(evidence: Evidence, clock: Clock, deadline_s: float = DELIVERY_DEADLINE_S) -> bool:
    """Wait until each committed order event was received; False when the deadline passed first."""
    end_s = clock.monotonic_s() + deadline_s
    while True:
        evidence.refresh()
        if evidence.undelivered == 0:
            await asyncio.sleep(REPEAT_WATCH_S)
            evidence.refresh()
            return True
        if clock.monotonic_s() > end_s:
            return False
        await asyncio.sleep(DELIVERY_POLL_S)


@dataclass(frozen=True)
class Windows:
    """How many windows were checked, and what is wrong with which: in the tables, and as pushed to the client."""

    checked: int
    wrong: Mapping[WindowKey, list[str]]
    pushed_wrong: Mapping[WindowKey, list[str]]


async def until_windows_right(
    evidence: Evidence, tables: Tables, clock: Clock, deadline_s: float = WINDOWS_DEADLINE_S
) -> Windows:
    """Wait until the workers' windows, and those that the client was told of, equal the recount."""
    expected = recount.recount(evidence.calls, tables.window_s)
    checked = sum(key.start_ms >= tables.since_ms for key in expected)
    end_s = clock.monotonic_s() + deadline_s
    while True:
        rows = await tables.rows()
        evidence.refresh()
        found = Windows(
            checked,
            recount.compare(expected, rows or [], since_ms=tables.since_ms),
            recount.compare(expected, evidence.closed_windows, since_ms=tables.since_ms),
        )
        if not (found.wrong or found.pushed_wrong) or clock.monotonic_s() > end_s:
            return found
        await asyncio.sleep(TABLE_POLL_S)


async def conclude(
    evidence: Evidence,
    tables: Tables,
    clock: Clock,
    *,
    startup_s: float,
    restarts: Callable[[], Mapping[str, int]],
) -> tuple[report.Report, list[str]]:
    """Wait for the rest, compare, and return the report with a line for each fault worth looking at."""
    delivered = await until_delivered(evidence, clock)
    windows = await until_windows_right(evidence, tables, clock)
    evidence.refresh()
    delivery = report.compare_delivery(evidence.committed, evidence.received)
    faults = [] if delivered else [f"{delivery.lost} order events had not arrived after {DELIVERY_DEADLINE_S:g} s"]
    faults += [f"window {_told(key, what)}" for key, what in sorted(windows.wrong.items())]
    faults += [f"pushed window {_told(key, what)}" for key, what in sorted(windows.pushed_wrong.items())]
    return (
        report.Report(
            startup_s=round(startup_s, 2),
            committed=delivery.committed,
            rolled_back=evidence.rolled_back,
            delivered=delivery.delivered,
            lost=delivery.lost,
            duplicated=delivery.duplicated,
            out_of_order=delivery.out_of_order,
            misdelivered=delivery.misdelivered,
            uncommitted=delivery.uncommitted,
            tool_events=len(evidence.calls),
            windows_checked=windows.checked,
            windows_wrong=len(windows.wrong),
            pushed_wrong=len(windows.pushed_wrong),
            commit_to_client_ms=report.percentiles_ms(delivery.latencies_ms),
            alerts_raised=evidence.alerts(ALERT_RAISED),
            alerts_resolved=evidence.alerts(ALERT_RESOLVED),
            restarts=restarts(),
        ),
        faults,
    )


def _told(key: WindowKey, what: Sequence[str]) -> str:
    return f"{key.tenant} {key.tool} {key.start_ms}: {'; '.join(what)}"
