"""A unit of an experiment: where it was exposed and what it did, each event once. Pure.

Where it stands: `agents.experiments` hands it decoded events; the next stop is `tables.ab_partition`, which keeps the
results of the arms in step with it.

A unit's row holds the events themselves and not their sums, because a late exposure can move all of them: to another
arm, or from its pre-period to its post. What is kept is a set, so that order, repeats and merging do not matter:

    exposures   the earliest time of each (experiment, epoch, arm)
    outcomes    of each (experiment, metric, kind) and event id one; of two with the same id the smaller (earlier) one

The unit belongs to the epoch and arm of its earliest exposure in the experiment, ties broken by epoch and name.

    row    key ["abu", 0, tenant, unit]    fields [[experiment, [[epoch, arm, ts ms], ...],
                                                   [[metric, kind, outcomes], ...]], ...]

Everything in it is sorted. `outcomes` are bytes, one record each: 8 of the id's hash, the time in ms (int64), the value
and for a ratio the denominator (float64), big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

from contracts.experiments import AssignmentSample, ExperimentSample, MetricKind, decode_experiment_samples
from contracts.names import Mode, Topic, experiment_channel
from tables.fold import Column, OneByOne, Samples, Summary, TableKind, named_samples

FORMAT = 1
# The kinds of metric, as contracts.experiments names them; rows hold their places in this list.
MEAN: Final = "mean"
RATIO: Final = "ratio"
BINARY: Final = "binary"
QUANTILE: Final = "quantile"
KINDS: tuple[MetricKind, ...] = (MEAN, RATIO, BINARY, QUANTILE)

_PLAIN = struct.Struct(">8sqd")
_WITH_DENOMINATOR = struct.Struct(">8sqdd")


class Exposure(NamedTuple):
    """A unit was shown an arm; time in milliseconds since the epoch."""

    experiment: str
    epoch: int
    arm: str
    ts_ms: int


class Outcome(NamedTuple):
    """What was measured, and when. The denominator is 0 for what is no ratio."""

    ts_ms: int
    value: float
    denominator: float


class Observation(NamedTuple):
    """An outcome of a unit, with what tells it from others; `id` is from `id_of`."""

    experiment: str
    metric: str
    kind: MetricKind
    id: bytes
    outcome: Outcome


class Standing(NamedTuple):
    """Where a unit belongs: epoch and arm of its first exposure; `conflict`: it was seen in another arm too."""

    epoch: int
    arm: str
    since_ms: int
    conflict: bool


UnitEvent: TypeAlias = Exposure | Observation
Metric = tuple[str, MetricKind]
"""A metric's name and kind."""


def id_of(text: str) -> bytes:
    """What an event's id is kept as: two of a unit's million outcomes collide with a probability of 3e-8."""
    return blake2b(text.encode(), digest_size=8).digest()


@dataclass(slots=True)
class Enrolment:
    """One unit in one experiment. Changed by `add` alone."""

    exposures: dict[tuple[int, str], int] = field(default_factory=dict)
    outcomes: dict[Metric, dict[bytes, Outcome]] = field(default_factory=dict)
    standing: Standing | None = field(init=False)
    """Where the unit belongs; None before an exposure has come."""

    def __post_init__(self) -> None:
        self.standing = _standing([(ts_ms, epoch, arm) for (epoch, arm), ts_ms in self.exposures.items()])

    def standing_with(self, exposure: Exposure) -> Standing | None:
        """Where the unit would belong with one more exposure."""
        known = [(ts_ms, epoch, arm) for (epoch, arm), ts_ms in self.exposures.items()]
        return _standing([*known, (exposure.ts_ms, exposure.epoch, exposure.arm)])

    def knows(self, event: UnitEvent) -> bool:
        """Whether an event would change nothing: it, or one that counts before it, has been taken in."""
        if isinstance(event, Exposure):
            first_ms = self.exposures.get((event.epoch, event.arm))
            return first_ms is not None and first_ms <= event.ts_ms
        held = self.outcomes.get((event.metric, event.kind), {}).get(event.id)
        return held is not None and held <= event.outcome

    def grows_by(self, event: UnitEvent) -> bool:
        """Whether one more outcome would have to be kept."""
        return isinstance(event, Observation) and event.id not in self.outcomes.get((event.metric, event.kind), {})

    def add(self, event: UnitEvent) -> None:
        """Take in an event that is not known yet."""
        if isinstance(event, Exposure):
            self.standing = self.standing_with(event)
            self.exposures[event.epoch, event.arm] = event.ts_ms
        else:
            self.outcomes.setdefault((event.metric, event.kind), {})[event.id] = event.outcome


def _standing(exposures: Sequence[tuple[int, int, str]]) -> Standing | None:
    if not exposures:
        return None
    since_ms, epoch, arm = min(exposures)
    return Standing(epoch, arm, since_ms, any(other != arm for _, _, other in exposures))


Unit = dict[str, Enrolment]
"""A unit's experiments by name."""


def outcome_count(unit: Unit) -> int:
    """How many outcomes are kept of a unit."""
    return sum(len(kept) for enrolment in unit.values() for kept in enrolment.outcomes.values())


class UnitFold(OneByOne[Unit, UnitEvent]):
    """A unit's state as rows of a table (`tables.fold.Fold`)."""

    format = FORMAT

    def empty(self) -> Unit:
        """A unit of which nothing is known."""
        return {}

    def add(self, state: Unit, values: Sequence[UnitEvent]) -> None:
        """Take in events; repeats among them change nothing."""
        for event in values:
            enrolment = state.setdefault(event.experiment, Enrolment())
            if not enrolment.knows(event):
                enrolment.add(event)

    def merge(self, left: Unit, right: Unit) -> Unit:
        """What either knows."""
        both: Unit = {}
        for unit in (left, right):
            for experiment, enrolment in unit.items():
                self.add(both, list(_events(experiment, enrolment)))
        return both

    def pack(self, state: Unit) -> Sequence[object]:
        """See the module's text."""
        return [[[name, *_pack(state[name])] for name in sorted(state)]]

    def unpack(self, fields: Sequence[Any]) -> Unit:
        """What `pack` made."""
        experiments = fields[0] if fields else ()
        return {name: _unpack(exposures, outcomes) for name, exposures, outcomes, *_ in experiments}

    def summarise(self, state: Unit) -> Summary:
        """How much is known of the unit."""
        exposed = [enrolment.standing for enrolment in state.values() if enrolment.standing]
        return {
            "experiments": len(state),
            "exposed": len(exposed),
            "conflicts": sum(standing.conflict for standing in exposed),
            "outcomes": outcome_count(state),
        }


def samples(values: Sequence[bytes], mode: Mode) -> Samples:
    """The samples in records of the experiments topic; `event_of` makes a unit's events of them.

    They are named by their tenants only: units are too many, and a unit's row is found by the sample itself.
    """
    batch = decode_experiment_samples(values, mode=mode)
    return named_samples(
        indexes=batch.indexes,
        names=[(sample.tenant_id, ()) for sample in batch.samples],
        at_ms=[sample.ts_ms for sample in batch.samples],
        values=batch.samples,
        bad=batch.bad,
    )


KIND = TableKind(
    name="ab_units",
    kind="abu",
    describe="Units of experiments: exposures and outcomes. Private to ab_results.",
    topic=Topic.EXPERIMENTS,
    parts=("unit",),
    size_ms=0,
    fold=UnitFold(),
    columns=(
        Column("experiments", "Experiments that the unit was heard of in."),
        Column("exposed", "Those of them that it was exposed in."),
        Column("conflicts", "Those of them in which it was seen in more than one arm."),
        Column("outcomes", "Outcomes kept."),
    ),
    samples=samples,
    channel=lambda subject: experiment_channel(subject[0]),
)


def event_of(sample: ExperimentSample, otherwise: Callable[[], str]) -> UnitEvent:
    """A unit's event; `otherwise` gives a text that tells an outcome from others when it has no event id."""
    if isinstance(sample, AssignmentSample):
        return Exposure(sample.experiment, sample.epoch, sample.arm, sample.ts_ms)
    id_ = id_of(otherwise() if sample.event_id is None else f"event {sample.event_id}")
    # Adding 0 turns minus zero, which is equal to zero and has other bytes, into zero.
    outcome = Outcome(sample.ts_ms, sample.value + 0.0, (sample.denominator or 0.0) + 0.0)
    return Observation(sample.experiment, sample.metric, sample.kind, id_, outcome)


def _events(experiment: str, enrolment: Enrolment) -> list[UnitEvent]:
    exposures = [Exposure(experiment, epoch, arm, ts_ms) for (epoch, arm), ts_ms in enrolment.exposures.items()]
    observations = [
        Observation(experiment, metric, kind, id_, outcome)
        for (metric, kind), kept in enrolment.outcomes.items()
        for id_, outcome in kept.items()
    ]
    return [*exposures, *observations]


def _pack(enrolment: Enrolment) -> tuple[list[object], list[object]]:
    exposures = [[epoch, arm, ts_ms] for (epoch, arm), ts_ms in sorted(enrolment.exposures.items())]
    outcomes = [
        [metric, KINDS.index(kind), _pack_outcomes(kept, kind)]
        for (metric, kind), kept in sorted(enrolment.outcomes.items())
    ]
    return list(exposures), list(outcomes)


def _pack_outcomes(kept: Mapping[bytes, Outcome], kind: MetricKind) -> bytes:
    if kind == RATIO:
        pack = _WITH_DENOMINATOR.pack
        return b"".join([pack(id_, *outcome) for id_, outcome in sorted(kept.items())])
    pack = _PLAIN.pack
    return b"".join([pack(id_, ts_ms, value) for id_, (ts_ms, value, _) in sorted(kept.items())])


def _unpack(exposures: Sequence[Any], outcomes: Sequence[Any]) -> Enrolment:
    enrolment = Enrolment({(epoch, arm): ts_ms for epoch, arm, ts_ms in exposures})
    for metric, code, packed in outcomes:
        kind = KINDS[code]
        if kind == RATIO:
            kept = {id_: Outcome(*rest) for id_, *rest in _WITH_DENOMINATOR.iter_unpack(packed)}
        else:
            kept = {id_: Outcome(ts_ms, value, 0.0) for id_, ts_ms, value in _PLAIN.iter_unpack(packed)}
        enrolment.outcomes[metric, kind] = kept
    return enrolment
