"""An independent recount of tool latency windows, to hold the worker's tables against.

It shares no code with `tables/` on purpose: plain lists, exact sums, exact quantiles of the sorted sample.
Definitions: a window is [k * length, (k + 1) * length) of event time; the q-quantile of n sorted values is the one
at index floor(q * (n - 1)).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
# The tables promise 1 % relative error; the rest is for the rounding of printed milliseconds.
RELATIVE_ERROR = 0.01
ROUNDING_MS = 0.001


@dataclass(frozen=True, order=True)
class WindowKey:
    """One window of one tenant's tool; `start_ms` in milliseconds since the Unix epoch."""

    tenant: str
    tool: str
    start_ms: int


@dataclass(frozen=True)
class Expected:
    """What a window must say: exact sum in microseconds, exact sample quantiles in ms."""

    count: int
    errors: int
    sum_us: int
    quantiles_ms: Mapping[str, float]


@dataclass(frozen=True)
class Call:
    """One committed tool call."""

    tenant: str
    tool: str
    event_ms: int
    latency_ms: float
    error: bool = False


def recount(calls: Iterable[Call], window_s: int) -> dict[WindowKey, Expected]:
    """Every window that has at least one call."""
    groups: dict[WindowKey, list[Call]] = defaultdict(list)
    for call in calls:
        start_ms = call.event_ms // (window_s * 1000) * (window_s * 1000)
        groups[WindowKey(call.tenant, call.tool, start_ms)].append(call)
    return {key: _expected(group) for key, group in groups.items()}


def _expected(group: list[Call]) -> Expected:
    ordered = sorted(call.latency_ms for call in group)
    return Expected(
        count=len(group),
        errors=sum(call.error for call in group),
        sum_us=sum(round(value * 1000) for value in ordered),
        quantiles_ms={name: ordered[math.floor(q * (len(ordered) - 1))] for name, q in QUANTILES.items()},
    )


def row_key(row: Mapping[str, object]) -> WindowKey:
    """The window that a row of the workers' view speaks of."""
    start = datetime.fromisoformat(str(row["window_start"]))
    return WindowKey(str(row["tenant_id"]), str(row["tool"]), round(start.timestamp() * 1000))


def differences(expected: Expected, row: Mapping[str, object]) -> list[str]:
    """What is wrong with a row, in words; empty when it is right."""
    wrong = [
        f"{name} is {row.get(name)}, not {value}"
        for name, value in (("count", expected.count), ("errors", expected.errors), ("sum_us", expected.sum_us))
        if row.get(name) != value
    ]
    for name, exact_ms in expected.quantiles_ms.items():
        told = row.get(name)
        if not isinstance(told, int | float) or abs(told - exact_ms) > exact_ms * RELATIVE_ERROR + ROUNDING_MS:
            wrong.append(f"{name} is {told}, not within 1 % of {exact_ms}")
    return wrong


def compare(
    expected: Mapping[WindowKey, Expected], rows: Iterable[Mapping[str, object]], *, since_ms: int
) -> dict[WindowKey, list[str]]:
    """The windows from `since_ms` on that are wrong: missing, unexpected, doubled, still open or different.

    `rows` are those of the tables, or closed windows as they were pushed.
    """
    seen: dict[WindowKey, list[str]] = {}
    wrong: dict[WindowKey, list[str]] = {}
    for row in rows:
        key = row_key(row)
        if key.start_ms < since_ms:
            continue
        found = differences(expected[key], row) if key in expected else ["nothing was committed for it"]
        if not row.get("closed"):
            found.append("it is still open")
        if key in seen:
            found.append("it is there twice")
        seen[key] = found
        if found:
            wrong[key] = found
    missing = {key for key in expected if key.start_ms >= since_ms} - seen.keys()
    return wrong | {key: ["it is not there"] for key in missing}
