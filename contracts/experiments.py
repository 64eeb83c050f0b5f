"""The events of experiments: `ab_test_assignment` (a unit was shown an arm) and `ab_test_outcome` (what it did)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from contracts.errors import ContractError, MissingField, OutOfRange, WrongType
from contracts.fields import Id, Moment, Tenant
from contracts.names import LOCAL_LIMITS, Mode
from contracts.orders import Meta
from contracts.sample_batch import BatchDecoder, LooseId, Sample, SampleBatch

Epoch = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
# Bounded, because squares and products of it are summed: 1e24 leaves a double 284 orders of magnitude.
Value = Annotated[float, msgspec.Meta(ge=-LOCAL_LIMITS.value, le=LOCAL_LIMITS.value)]
Denominator = Annotated[float, msgspec.Meta(ge=0, le=LOCAL_LIMITS.value)]
MetricKind: TypeAlias = Literal["mean", "ratio", "binary", "quantile"]


class AbTestAssignment(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="ab_test_assignment"
):
    """A unit (a user, a session, a shop) was exposed to an arm at `ts`, aware. Its first exposure counts.

    `epoch` numbers the steps of a ramp: results of units first seen under different splits are never pooled.
    """

    EVENT: ClassVar[str] = "ab_test_assignment"

    version: str
    tenant_id: Tenant
    experiment: Id
    arm: Id
    unit: Id
    ts: Moment
    epoch: Epoch = 0
    event_id: Id | None = None
    session_id: Id | None = None
    meta: Meta | None = None


class AbTestOutcome(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="ab_test_outcome"
):
    """Something was measured of a unit at `ts`, aware: in its pre-period when that is before its first exposure.

    `denominator` belongs to a ratio and to nothing else; a binary value is 0 or 1. Outcomes with the same `event_id`
    are one.
    """

    EVENT: ClassVar[str] = "ab_test_outcome"

    version: str
    tenant_id: Tenant
    experiment: Id
    unit: Id
    metric: Id
    kind: MetricKind
    value: Value
    ts: Moment
    denominator: Denominator | None = None
    event_id: Id | None = None
    meta: Meta | None = None


class _UnitSample(Sample, gc=False, frozen=True, kw_only=True):
    """What both have."""

    experiment: Id
    raw_unit: LooseId = msgspec.field(name="unit")
    raw_event_id: LooseId | None = msgspec.field(name="event_id", default=None)

    @property
    def unit(self) -> str:
        """Whom it is about."""
        return str(self.raw_unit)

    @property
    def event_id(self) -> str | None:
        """By which a repeat is told, when the event says so."""
        return None if self.raw_event_id is None else str(self.raw_event_id)


class AssignmentSample(_UnitSample, gc=False, frozen=True, kw_only=True, tag_field="event", tag="ab_test_assignment"):
    """What statistics of experiments need of an `ab_test_assignment`."""

    EVENT: ClassVar[str] = AbTestAssignment.EVENT
    IDS: ClassVar[Mapping[str, str]] = {
        "experiment": "experiment",
        "arm": "arm",
        "raw_unit": "unit",
        "raw_event_id": "event_id",
    }

    arm: Id
    epoch: Epoch = 0


class OutcomeSample(_UnitSample, gc=False, frozen=True, kw_only=True, tag_field="event", tag="ab_test_outcome"):
    """What statistics of experiments need of an `ab_test_outcome`."""

    EVENT: ClassVar[str] = AbTestOutcome.EVENT
    IDS: ClassVar[Mapping[str, str]] = {
        "experiment": "experiment",
        "raw_unit": "unit",
        "metric": "metric",
        "raw_event_id": "event_id",
    }

    metric: Id
    kind: MetricKind
    value: Value
    denominator: Denominator | None = None


ExperimentSample: TypeAlias = AssignmentSample | OutcomeSample


def disagreement(of: AbTestAssignment | AbTestOutcome | ExperimentSample) -> ContractError | None:
    """What cannot all be right: a ratio without denominator, a denominator without ratio, a binary value like 0.5."""
    if not isinstance(of, (AbTestOutcome, OutcomeSample)):
        return None
    if of.kind == "ratio":
        if of.denominator is None:
            return MissingField(event=of.EVENT, field="denominator", limit="is required for a ratio", value="nothing")
    elif of.denominator is not None:
        limit = f"belongs to a ratio, not to kind {of.kind}"
        return WrongType(event=of.EVENT, field="denominator", limit=limit, value=of.denominator)
    elif of.kind == "binary" and of.value not in (0, 1):
        return OutOfRange(event=of.EVENT, field="value", limit="must be 0 or 1 for kind binary", value=of.value)
    return None


_batches: BatchDecoder[ExperimentSample] = BatchDecoder(
    msgspec.json.Decoder(ExperimentSample),
    (AbTestAssignment.EVENT, AbTestOutcome.EVENT),
    ("raw_tenant", "raw_unit", "raw_event_id"),
    disagreement,
)


def decode_experiment_samples(values: Sequence[bytes], *, mode: Mode) -> SampleBatch[ExperimentSample]:
    """The samples in a list of payloads, with the bad ones set apart; see contracts.sample_batch."""
    return _batches.decode(values, mode)
