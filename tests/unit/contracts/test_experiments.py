from __future__ import annotations

import pytest

from contracts import errors
from contracts.codec import decode
from contracts.experiments import AbTestAssignment, AssignmentSample, OutcomeSample, decode_experiment_samples
from contracts.names import Mode
from tests.support.samples import MODES, refusal, value

ASSIGNMENT, OUTCOME = "ab_test_assignment", "ab_test_outcome"


def test_both_events_stand_on_one_topic_and_are_told_apart():
    values = [value(ASSIGNMENT), value(OUTCOME), value(ASSIGNMENT, epoch=...)]
    assigned, measured, plain = decode_experiment_samples(values, mode="strict").samples
    assert isinstance(assigned, AssignmentSample)
    assert (assigned.experiment, assigned.epoch, assigned.arm, assigned.unit) == ("greeting", 1, "short", "u-1207")
    assert assigned.event_id == "as-1207-1"
    assert isinstance(measured, OutcomeSample)
    assert (measured.metric, measured.kind, measured.value, measured.denominator) == ("upsell_rate", "ratio", 2, 5)
    assert isinstance(plain, AssignmentSample)
    assert plain.epoch == 0


def test_an_event_id_may_be_absent():
    [taken] = decode_experiment_samples([value(OUTCOME, event_id=...)], mode="strict").samples
    assert taken.event_id is None


@pytest.mark.parametrize("event", [ASSIGNMENT, OUTCOME])
def test_compat_makes_text_of_an_integer_unit_and_event_id_as_the_codec_does(event: str):
    raw = value(event, unit=1207, event_id=9)
    [taken] = decode_experiment_samples([raw], mode="compat").samples
    assert (taken.unit, taken.event_id) == ("1207", "9")
    decoded = decode(raw, mode="compat")
    assert decoded.deviations == ("unit:integer", "event_id:integer")
    assert decoded.event.unit == "1207"  # type: ignore[union-attr]
    assert refusal(event, "strict", unit=1207).field == "unit"
    assert refusal(event, "strict", event_id=9).field == "event_id"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("changes", "leaf", "field"),
    [
        ({"denominator": ...}, errors.MissingField, "denominator"),
        ({"kind": "mean"}, errors.WrongType, "denominator"),
        ({"kind": "binary"}, errors.WrongType, "denominator"),
        ({"kind": "binary", "denominator": ...}, errors.OutOfRange, "value"),
        ({"kind": "median"}, errors.WrongType, "kind"),
        ({"denominator": -1}, errors.OutOfRange, "denominator"),
        ({"denominator": 1e13}, errors.OutOfRange, "denominator"),
        ({"value": 1.1e12}, errors.OutOfRange, "value"),
        ({"value": -1.1e12}, errors.OutOfRange, "value"),
        ({"value": float("nan")}, errors.OutOfRange, "value"),
        ({"value": float("-inf")}, errors.OutOfRange, "value"),
        ({"value": "2"}, errors.WrongType, "value"),
        ({"value": True}, errors.WrongType, "value"),
        ({"metric": "a\n"}, errors.BadText, "metric"),
        ({"experiment": ""}, errors.OutOfRange, "experiment"),
        ({"event_id": "a\0"}, errors.BadText, "event_id"),
    ],
)
def test_an_outcome_that_cannot_be_right_is_refused_by_the_codec_too(
    mode: Mode, changes: dict[str, object], leaf: type[errors.ContractError], field: str
):
    error = refusal(OUTCOME, mode, **changes)
    assert (type(error), error.field) == (leaf, field), str(error)
    with pytest.raises(leaf) as caught:
        decode(value(OUTCOME, **changes), mode=mode)
    assert caught.value.field == field


@pytest.mark.parametrize("number", [0, 1, 0.0, 1.0])
def test_a_binary_value_is_0_or_1(number: float):
    raw = value(OUTCOME, kind="binary", denominator=..., value=number)
    [taken] = decode_experiment_samples([raw], mode="strict").samples
    assert isinstance(taken, OutcomeSample)
    assert taken.value == number


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("changes", "field"),
    [({"epoch": -1}, "epoch"), ({"epoch": 2**31}, "epoch"), ({"arm": ""}, "arm"), ({"arm": "a\0"}, "arm")],
)
def test_an_assignment_outside_its_limits_is_refused(mode: Mode, changes: dict[str, object], field: str):
    assert refusal(ASSIGNMENT, mode, **changes).field == field
    with pytest.raises(errors.ContractError) as caught:
        decode(value(ASSIGNMENT, **changes), mode=mode)
    assert caught.value.field == field


def test_an_assignment_without_epoch_is_of_epoch_0():
    event = decode(value(ASSIGNMENT, epoch=...), mode="strict").event
    assert isinstance(event, AbTestAssignment)
    assert event.epoch == 0
