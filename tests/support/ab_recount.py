"""An independent count of an experiment's results: from the records of a topic, with fractions instead of our sums.

It shares no code with the tables. `differences` says where the rows of ab_results depart from it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from contracts.experiments import MetricKind
from tables import stats
from tables.ab_results import AbState
from tables.exact_moments import SIZE, STEP_BITS
from tables.rows import WindowKey

Key = tuple[str, str, int, str, str]
"""Tenant, experiment, epoch, arm, metric ("": the row of assignments)."""


class LogRecord(NamedTuple):
    """What a recount reads of a record."""

    partition: int
    offset: int
    value: bytes
    ce_id: str = ""


@dataclass
class Expected:
    """What a row should hold."""

    units: int = 0
    conflicts: int = 0
    totals: dict[MetricKind, list[tuple[Fraction, ...]]] = field(default_factory=lambda: defaultdict(list))
    converted: list[bool] = field(default_factory=list)
    quantile_n: int = 0
    values: list[float] = field(default_factory=list)


def recount(records: Iterable[LogRecord]) -> dict[Key, Expected]:
    """The rows that these records, in any order and repeated at will, should give."""
    exposures: dict[tuple[str, str, str], list[tuple[int, int, str]]] = defaultdict(list)
    outcomes: dict[tuple[str, str, str], dict[tuple[str, MetricKind], dict[str, tuple[int, float, float]]]] = (
        defaultdict(lambda: defaultdict(dict))
    )
    for record in records:
        event = json.loads(record.value)
        place = event["tenant_id"], event["unit"], event["experiment"]
        ts_ms = round(datetime.fromisoformat(event["ts"]).timestamp() * 1000)
        if event["event"] == "ab_test_assignment":
            exposures[place].append((ts_ms, event.get("epoch", 0), event["arm"]))
            continue
        name = event.get("event_id") or record.ce_id or f"{record.partition}/{record.offset}"
        name = f"{'event' if event.get('event_id') else 'ce' if record.ce_id else 'at'} {name}"
        kept = outcomes[place][event["metric"], event["kind"]]
        outcome = ts_ms, event["value"], event.get("denominator", 0.0)
        kept[name] = min(outcome, kept.get(name, outcome))
    rows: dict[Key, Expected] = defaultdict(Expected)
    for place, seen in exposures.items():
        _count(rows, place, seen, outcomes.get(place, {}))
    return dict(rows)


def _count(
    rows: dict[Key, Expected],
    place: tuple[str, str, str],
    seen: list[tuple[int, int, str]],
    outcomes: Mapping[tuple[str, MetricKind], Mapping[str, tuple[int, float, float]]],
) -> None:
    tenant, _, experiment = place
    since_ms, epoch, arm = min(seen)
    row = rows[tenant, experiment, epoch, arm, ""]
    row.units += 1
    row.conflicts += len({other for _, _, other in seen}) > 1
    for (metric, kind), named in outcomes.items():
        row = rows[tenant, experiment, epoch, arm, metric]
        post = [(value, below) for ts_ms, value, below in named.values() if ts_ms >= since_ms]
        pre = [(value, below) for ts_ms, value, below in named.values() if ts_ms < since_ms]
        if kind == "binary":
            row.converted.append(any(value == 1 for value, _ in post))
        elif kind == "quantile":
            row.quantile_n += 1
            row.values += [value for value, _ in post]
        else:
            row.totals[kind].append(
                tuple(sum(map(Fraction, c), Fraction(0)) for c in (*_columns(post), *_columns(pre)))
            )


def _columns(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [value for value, _ in pairs], [below for _, below in pairs]


def differences(states: Mapping[WindowKey, AbState], expected: Mapping[Key, Expected]) -> list[str]:
    """Where merged rows depart from the recount, in words; empty when they agree. Rows without units do not count."""
    found: dict[Key, AbState] = {}
    for row, state in states.items():
        experiment, epoch, arm, metric = row.subject
        if not state.is_empty:
            found[row.tenant_id, experiment, int(epoch), arm, metric] = state
    wrong = [f"{key} is missing" for key in expected.keys() - found.keys()]
    wrong += [f"{key} should not be there" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        wrong += [f"{key}: {what}" for what in _departures(found[key], expected[key])]
    return wrong


def _departures(state: AbState, expected: Expected) -> Iterable[str]:
    plain: dict[str, tuple[Any, Any]] = {
        "units": (state.units, expected.units),
        "conflicts": (state.conflicts, expected.conflicts),
        "binary": ((state.binary_n, state.conversions), (len(expected.converted), sum(expected.converted))),
        "quantile units": (state.quantile_n, expected.quantile_n),
        "values": (sum(state.histogram.values()), len(expected.values)),
        "kinds": (set(state.moments), set(expected.totals)),
    }
    yield from (f"{name} {got}, not {due}" for name, (got, due) in plain.items() if got != due)
    for kind in state.moments.keys() & expected.totals.keys():
        yield from (f"{kind} {what}" for what in _moment_departures(state, kind, expected.totals[kind]))


def _moment_departures(state: AbState, kind: MetricKind, totals: list[tuple[Fraction, ...]]) -> Iterable[str]:
    exact = state.moments[kind]
    if exact.n != len(totals):
        yield f"n {exact.n}, not {len(totals)}"
    sums = [sum((row[i] for row in totals), Fraction(0)) for i in range(SIZE)]
    if [Fraction(total, 1 << STEP_BITS) for total in exact.sums] != sums:
        yield f"sums {exact.sums}, not {sums}"
    products = [sum((row[i] * row[j] for row in totals), Fraction(0)) for i in range(SIZE) for j in range(i, SIZE)]
    if [Fraction(total, 1 << (2 * STEP_BITS)) for total in exact.products] != products:
        yield "products differ"
    # In fractions: floats of the same formula are wrong by more than ours where a mean is far from its spread.
    n, ours = max(1, len(totals)), stats.of_exact(exact)
    mean = np.array([float(total / n) for total in sums])
    comoment = np.array(
        [
            [float(sum((row[i] * row[j] for row in totals), Fraction(0)) - sums[i] * sums[j] / n) for j in range(SIZE)]
            for i in range(SIZE)
        ]
    )
    scale = np.sqrt(np.outer(np.diag(comoment), np.diag(comoment))) + 1e-12
    if not np.allclose(mean, ours.mean, rtol=1e-12, atol=1e-12):
        yield f"means {ours.mean}, not {mean}"
    if np.any(np.abs(comoment - ours.comoment) > 1e-9 * scale):
        yield f"co-moments {ours.comoment}, not {comoment}"
