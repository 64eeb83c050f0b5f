"""The ab_results table: what the units of each arm did, for each experiment, ramp epoch, arm and metric. Pure.

Where it stands: `tables.ab_partition` keeps these rows in step with the units' rows; `tables.ab_compare` compares arms.

    row    key ["ab", 0, tenant, experiment, epoch, arm, metric]
           fields [units, conflicts, moments of mean, moments of ratio, [n, conversions], [n, histogram]]

A partition of the topic holds the share of its own units in a row; shares add up when read. Everything is a whole
number, so that a unit is taken out as exactly as it was put in: a row depends on the units that are in it, and on
nothing else.

The row with the metric "" counts the units that were assigned to the arm (for sample-ratio checks) and those of them
that were seen in another arm too. A metric whose events disagree about its kind has a state for each; the summary is of
the first in the order mean, ratio, binary, quantile, and says "mixed".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contracts.experiments import MetricKind
from contracts.names import Topic, experiment_channel
from tables import ab_units, magnitudes, sketches, stats
from tables.ab_contributions import NONE_YET, Contribution
from tables.ab_units import BINARY, MEAN, QUANTILE, RATIO
from tables.exact_moments import ExactMoments, unpack
from tables.fold import Column, OneByOne, Summary, TableKind
from tables.rows import Subject

if TYPE_CHECKING:
    from runtime.settings import Settings

NAME = "ab_results"
KIND = "ab"
FORMAT = 1
PARTS = ("experiment", "epoch", "arm", "metric")
# The metric of the row that counts assignments; no event can have it.
ASSIGNED = ""
MIXED = "mixed"

_QUANTILES = (0.5, 0.9, 0.95, 0.99)
COLUMNS = (
    Column("kind", "mean, ratio, binary or quantile; mixed when events disagree; empty in the row of assignments."),
    Column("units", "Units assigned to the arm: first exposed to it. Only in the row of assignments.", "units"),
    Column("conflicts", "Those of them that were seen in another arm too. Only in the row of assignments."),
    Column("n", "Units of the arm that have the metric."),
    Column("mean", "mean: the average total of these units since their exposure; ratio: total over total."),
    Column("variance", "Of one unit's total; for a ratio by the delta method."),
    Column("conversions", "binary: units that converted since their exposure."),
    Column("rate", "binary: conversions / n.", "rate"),
    Column("p50", "quantile: median of all values since exposure, within 1 %.", "quantiles"),
    Column("p90", "quantile: 90th percentile, within 1 %.", "quantiles"),
    Column("p95", "quantile: 95th percentile, within 1 %.", "quantiles"),
    Column("p99", "quantile: 99th percentile, within 1 %.", "quantiles"),
)


@dataclass(slots=True)
class AbState:
    """A row's state: the sum of what its units contribute."""

    units: int = 0
    conflicts: int = 0
    moments: dict[MetricKind, ExactMoments] = field(default_factory=dict)
    """Of kind mean, of kind ratio."""
    binary_n: int = 0
    conversions: int = 0
    quantile_n: int = 0
    histogram: dict[int, int] = field(default_factory=dict)

    def assign(self, sign: int, *, conflict: bool) -> None:
        """Count a unit in (sign 1) or out (-1)."""
        self.units += sign
        self.conflicts += sign * conflict

    def change(self, kind: MetricKind, old: Contribution | None, new: Contribution | None) -> None:
        """Put what a unit contributes now in the place of what it did; None is nothing at all."""
        more = (new is not None) - (old is not None)
        before, after = old or NONE_YET, new or NONE_YET
        if kind == BINARY:
            self.binary_n += more
            self.conversions += after.converted - before.converted
        elif kind == QUANTILE:
            self.quantile_n += more
            _add(self.histogram, after.buckets, 1)
            _add(self.histogram, before.buckets, -1)
        else:
            moments = self.moments.setdefault(kind, ExactMoments())
            moments.replace(None if old is None else old.totals, None if new is None else new.totals)
            if moments.n == 0:
                del self.moments[kind]

    @property
    def kinds(self) -> tuple[MetricKind, ...]:
        """The kinds of metric that units have reported, in order."""
        present: dict[MetricKind, bool] = {
            MEAN: MEAN in self.moments,
            RATIO: RATIO in self.moments,
            BINARY: self.binary_n > 0,
            QUANTILE: self.quantile_n > 0,
        }
        return tuple(kind for kind, there in present.items() if there)

    @property
    def is_empty(self) -> bool:
        """No unit is in it: all were moved to other arms."""
        return self.units == 0 and not self.kinds


def _add(histogram: dict[int, int], buckets: Mapping[int, int], sign: int) -> None:
    for bucket, count in buckets.items():
        left = histogram.get(bucket, 0) + sign * count
        if left:
            histogram[bucket] = left
        else:
            del histogram[bucket]


class AbFold(OneByOne[AbState, tuple[MetricKind, Contribution]]):
    """Rows of ab_results (`tables.fold.Fold`); a value is a unit's kind of metric and its contribution to it."""

    format = FORMAT

    def empty(self) -> AbState:
        """A row without units."""
        return AbState()

    def add(self, state: AbState, values: Sequence[tuple[MetricKind, Contribution]]) -> None:
        """Count further units in."""
        for kind, contribution in values:
            state.change(kind, None, contribution)

    def merge(self, left: AbState, right: AbState) -> AbState:
        """Two partitions' shares as one row."""
        kinds = {**left.moments, **right.moments}
        return AbState(
            left.units + right.units,
            left.conflicts + right.conflicts,
            {k: left.moments.get(k, ExactMoments()).merged(right.moments.get(k, ExactMoments())) for k in kinds},
            left.binary_n + right.binary_n,
            left.conversions + right.conversions,
            left.quantile_n + right.quantile_n,
            sketches.merged(left.histogram, right.histogram),
        )

    def pack(self, state: AbState) -> Sequence[object]:
        """See the module's text."""
        mean, ratio = (state.moments[kind].pack() if kind in state.moments else [] for kind in (MEAN, RATIO))
        return [
            state.units,
            state.conflicts,
            mean,
            ratio,
            [state.binary_n, state.conversions],
            [state.quantile_n, sketches.pack(state.histogram)],
        ]

    def unpack(self, fields: Sequence[Any]) -> AbState:
        """What `pack` made."""
        units, conflicts, mean, ratio, (binary_n, conversions), (quantile_n, histogram), *_ = fields
        packed: dict[MetricKind, Any] = {MEAN: mean, RATIO: ratio}
        moments = {kind: unpack(numbers) for kind, numbers in packed.items() if numbers}
        return AbState(units, conflicts, moments, binary_n, conversions, quantile_n, sketches.unpack(histogram))

    def summarise(self, state: AbState) -> Summary:
        """The columns; those of other kinds are None."""
        summary: Summary = {column.name: None for column in COLUMNS}
        if not state.kinds:
            return summary | {"kind": "", "units": state.units, "conflicts": state.conflicts}
        summary["kind"] = state.kinds[0] if len(state.kinds) == 1 else MIXED
        return summary | _described(state, state.kinds[0])


def _described(state: AbState, kind: MetricKind) -> Summary:
    if kind == BINARY:
        rate = state.conversions / state.binary_n
        return {"n": state.binary_n, "conversions": state.conversions, "rate": rate}
    if kind == QUANTILE:
        values = magnitudes.quantiles(state.histogram, _QUANTILES)
        return {"n": state.quantile_n} | dict(zip(("p50", "p90", "p95", "p99"), values, strict=True))
    arm = stats.of_exact(state.moments[kind])
    measured = stats.ratio_of(arm) if kind == RATIO else stats.mean_of(arm)
    if measured is None:
        return {"n": arm.n}
    return {"n": arm.n, "mean": measured.value, "variance": measured.variance}


def subject_of(experiment: str, epoch: int, arm: str, metric: str) -> Subject:
    """Which row."""
    return experiment, str(epoch), arm, metric


def kind(settings: Settings) -> TableKind[AbState]:
    """The table.

    Its samples are its units' events, with the unit as their subject: `agents.experiments` folds them into units first.
    """
    del settings  # no setting changes what a row holds
    return TableKind(
        name=NAME,
        kind=KIND,
        describe="What the units of each arm of an experiment did, by ramp epoch and metric.",
        topic=Topic.EXPERIMENTS,
        parts=PARTS,
        size_ms=0,
        fold=AbFold(),
        columns=COLUMNS,
        samples=ab_units.samples,
        channel=lambda subject: experiment_channel(subject[0]),
        merged_when_read=True,
    )
