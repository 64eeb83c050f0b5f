"""What a unit's outcomes of one metric add to the row of its arm. Pure; all whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from contracts.experiments import MetricKind
from tables import magnitudes
from tables.ab_units import BINARY, QUANTILE, Outcome
from tables.exact_moments import NOTHING, Totals, steps


class Contribution(NamedTuple):
    """Each kind of metric uses one of the three: totals in steps of a mean or ratio, 0 or 1, counts of values."""

    totals: Totals = NOTHING
    converted: int = 0
    buckets: Mapping[int, int] = {}


NONE_YET = Contribution()
"""Of a unit that is counted and has done nothing that counts."""


def contribution_of(kind: MetricKind, outcomes: Iterable[Outcome], since_ms: int) -> Contribution:
    """What all outcomes of a metric amount to; those before `since_ms` are the unit's pre-period."""
    total = NONE_YET
    if kind == QUANTILE:
        buckets: dict[int, int] = {}
        for outcome in outcomes:
            if outcome.ts_ms >= since_ms:
                bucket = magnitudes.bucket_of(outcome.value)
                buckets[bucket] = buckets.get(bucket, 0) + 1
        return Contribution(buckets=buckets)
    for outcome in outcomes:
        total = grown(kind, total, outcome, since_ms)
    return total


def grown(kind: MetricKind, share: Contribution, outcome: Outcome, since_ms: int) -> Contribution:
    """A contribution to a mean, a ratio or a binary metric with one more outcome."""
    counts = outcome.ts_ms >= since_ms
    if kind == BINARY:
        return Contribution(converted=max(share.converted, int(counts and outcome.value != 0)))
    num_post, den_post, num_pre, den_pre = share.totals
    num, den = steps(outcome.value), steps(outcome.denominator)
    if counts:
        return Contribution((num_post + num, den_post + den, num_pre, den_pre))
    return Contribution((num_post, den_post, num_pre + num, den_pre + den))
