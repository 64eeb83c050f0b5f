"""Compares the arms of experiments: merged rows of ab_results in, estimates out. Pure.

Where it stands: views, the command line and `agents.experiment_messages` hand it rows of `tables.ab_results` that were
merged over all partitions. The estimates are `tables.stats`': valid at one planned look.

A mean, a ratio and a rate are over all units assigned to the arm: one without the metric has totals of 0. A comparison
among those that have it would be of two different selections. Each ramp epoch is compared by itself, since its arms had
other shares of other times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from contracts.experiments import MetricKind
from tables import magnitudes, stats
from tables.ab_results import ASSIGNED, AbState
from tables.ab_units import BINARY, KINDS, MEAN, QUANTILE, RATIO
from tables.exact_moments import ExactMoments
from tables.rows import Subject
from tables.stats import Estimate, Measured, Moments, Undefined

CONFIDENCE = 0.95


class Against(NamedTuple):
    """An arm beside the control: as a difference and as a relative lift, with the pre-period's noise taken out or not.

    The adjusted ones are None where no unit has a pre-period that varies.
    """

    difference: Estimate | Undefined
    lift: Estimate | Undefined
    adjusted_difference: Estimate | Undefined | None = None
    adjusted_lift: Estimate | Undefined | None = None


@dataclass(frozen=True)
class Arm:
    """One arm's result; what a kind of metric does not have is None."""

    name: str
    units: int
    """Assigned to it."""
    conflicts: int
    """Of them, those seen in another arm too."""
    n: int
    """Of them, those that have the metric."""
    values: int | None = None
    """quantile: how many values."""
    value: float | None = None
    """The mean, the ratio, or the rate of conversion."""
    stderr: float | None = None
    p50: float | None = None
    p95: float | None = None
    against: Against | None = None
    """None for the control, and for quantiles."""


@dataclass(frozen=True)
class Result:
    """One metric of an experiment in one ramp epoch. `kind` is the first that its events name."""

    experiment: str
    epoch: int
    metric: str
    kind: MetricKind
    control: str
    arms: tuple[Arm, ...]
    """By name."""


def compare(rows: Mapping[Subject, AbState], *, control_arm: str, confidence: float = CONFIDENCE) -> list[Result]:
    """Every metric of these rows of one tenant, by experiment, epoch and metric.

    `control_arm` is what the others are compared with; where an experiment has no arm of that name, the first by name.
    An arm that no unit is assigned to is left out.
    """
    by_epoch: dict[tuple[str, int], dict[str, dict[str, AbState]]] = defaultdict(lambda: defaultdict(dict))
    for (experiment, epoch, arm, metric), state in rows.items():
        by_epoch[experiment, int(epoch)][arm][metric] = state
    return [
        result
        for (experiment, epoch), arms in sorted(by_epoch.items())
        for result in _results(experiment, epoch, arms, control_arm, confidence)
    ]


def _results(
    experiment: str, epoch: int, arms: Mapping[str, Mapping[str, AbState]], control_arm: str, confidence: float
) -> list[Result]:
    none = AbState()
    counted = {arm: metrics for arm, metrics in sorted(arms.items()) if metrics.get(ASSIGNED, none).units > 0}
    if not counted:
        return []
    control = control_arm if control_arm in counted else min(counted)
    found = []
    for metric in sorted({metric for metrics in counted.values() for metric in metrics} - {ASSIGNED}):
        shares = {arm: _Share(metrics[ASSIGNED], metrics.get(metric, none)) for arm, metrics in counted.items()}
        kinds = {kind for share in shares.values() for kind in share.metric.kinds}
        if kinds:
            kind = min(kinds, key=KINDS.index)
            told = tuple(_arm(kind, arm, shares, control, confidence) for arm in shares)
            found.append(Result(experiment, epoch, metric, kind, control, told))
    return found


class _Share(NamedTuple):
    """An arm's row of assignments and its row of the metric."""

    assigned: AbState
    metric: AbState

    def moments(self, kind: MetricKind) -> Moments:
        """Of all units of the arm."""
        exact = self.metric.moments.get(kind, ExactMoments())
        return stats.of_exact(exact, max(self.assigned.units, exact.n))

    def measured(self, kind: MetricKind) -> Measured | None:
        """The metric; None when a ratio has no denominator."""
        if kind == BINARY:
            return stats.proportion_of(self.assigned.units, self.metric.conversions)
        return stats.ratio_of(self.moments(kind)) if kind == RATIO else stats.mean_of(self.moments(kind))

    def n(self, kind: MetricKind) -> int:
        """Units that have the metric."""
        if kind == BINARY:
            return self.metric.binary_n
        return self.metric.quantile_n if kind == QUANTILE else self.metric.moments.get(kind, ExactMoments()).n


def _arm(kind: MetricKind, name: str, shares: Mapping[str, _Share], control: str, confidence: float) -> Arm:
    share = shares[name]
    assigned = share.assigned
    if kind == QUANTILE:
        histogram = share.metric.histogram
        p50, p95 = magnitudes.quantiles(histogram, (0.5, 0.95))
        count = sum(histogram.values())
        return Arm(name, assigned.units, assigned.conflicts, share.n(kind), count, p50=p50, p95=p95)
    measured = share.measured(kind)
    return Arm(
        name,
        assigned.units,
        assigned.conflicts,
        share.n(kind),
        value=None if measured is None else measured.value,
        stderr=None if measured is None else measured.stderr,
        against=None if name == control else _against(kind, shares[control], share, confidence),
    )


def _against(kind: MetricKind, control: _Share, treatment: _Share, confidence: float) -> Against | None:
    base, arm = control.measured(kind), treatment.measured(kind)
    if base is None or arm is None:
        return None
    adjusted = None
    if kind in (MEAN, RATIO):
        adjust = stats.adjusted_means if kind == MEAN else stats.adjusted_ratios
        adjusted = adjust(control.moments(kind), treatment.moments(kind))
    return Against(
        stats.difference(base, arm, confidence=confidence),
        stats.lift(base, arm, confidence=confidence),
        None if adjusted is None else stats.difference(*adjusted, confidence=confidence),
        None if adjusted is None else stats.lift(*adjusted, confidence=confidence),
    )
