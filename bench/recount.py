"""The right answer, counted from the generator's arrays with numpy alone, and the check of a contender's answer. Pure.

A p95 is the value of rank floor(0.95 * (n - 1)) among the sorted latencies of a row; a contender that gives one may be
1 % off (the error bound of a log-histogram).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.workload import CLOSING_TENANT, WINDOW_MS, Columns, Workload

P95 = 0.95
P95_TOLERANCE = 0.01
# Two numbers that differ by float rounding alone are the same; latencies are 1 us or more.
ROUNDING = 1e-6
MOST_SHOWN = 3

# (tenant, tool, window start in ms since the epoch)
RowKey = tuple[str, str, int]


class RowAnswer(NamedTuple):
    """A row as a contender has it; None: it does not keep this."""

    events: int
    errors: int | None = None
    p95_ms: float | None = None


class Verdict(NamedTuple):
    """Whether every row is right, and what is wrong with the first few that are not."""

    ok: bool
    text: str


def recount(workload: Workload) -> dict[RowKey, RowAnswer]:
    """Every row of the workload, closing events left out."""
    blocks = list(workload.blocks())
    columns = Columns(
        np.concatenate([block.key for block in blocks]),
        np.concatenate([block.ts_ms for block in blocks]),
        np.concatenate([block.latency_us for block in blocks]),
        np.concatenate([block.error for block in blocks]),
    )
    window = (columns.ts_ms - workload.start_ms) // WINDOW_MS
    row = window * workload.shape.keys + columns.key
    order = np.lexsort((columns.latency_us, row))
    rows, first, counts = np.unique(row[order], return_index=True, return_counts=True)
    errors: NDArray[np.int64] = np.add.reduceat(columns.error[order].astype(np.int64), first)
    p95_us = columns.latency_us[order][first + np.floor(P95 * (counts - 1)).astype(np.int64)]
    names, keys = workload.key_names, workload.shape.keys
    return {
        (*names[number % keys], workload.start_ms + number // keys * WINDOW_MS): RowAnswer(count, failed, us / 1000)
        for number, count, failed, us in zip(
            rows.tolist(), counts.tolist(), errors.tolist(), p95_us.tolist(), strict=True
        )
    }


def check(right: Mapping[RowKey, RowAnswer], given: Iterable[tuple[RowKey, RowAnswer]]) -> Verdict:
    """Compare every row; a missing, a wrong, a repeated and an invented row all count as wrong."""
    seen: set[RowKey] = set()
    wrong: list[str] = []
    for key, answer in given:
        if key[0] == CLOSING_TENANT:
            continue
        if key in seen:
            wrong.append(f"{key} stands there twice")
        seen.add(key)
        complaint = _complaint(right.get(key), answer)
        if complaint:
            wrong.append(f"{key}: {complaint}")
    wrong += [f"{key} is missing" for key in right.keys() - seen]
    shown = "; ".join(wrong[:MOST_SHOWN])
    return Verdict(not wrong, f"{len(wrong)} of {len(right)} rows wrong: {shown}" if wrong else f"{len(right)} rows")


def _complaint(expected: RowAnswer | None, answer: RowAnswer) -> str:
    if expected is None:
        return "no such row"
    if answer.events != expected.events:
        return f"count {answer.events}, not {expected.events}"
    if answer.errors is not None and answer.errors != expected.errors:
        return f"errors {answer.errors}, not {expected.errors}"
    if answer.p95_ms is not None and expected.p95_ms is not None:
        off = abs(answer.p95_ms - expected.p95_ms)
        if off > expected.p95_ms * (P95_TOLERANCE + ROUNDING):
            return f"p95 {answer.p95_ms} ms, not {expected.p95_ms}"
    return ""
