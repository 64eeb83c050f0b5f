"""What goes on beside the sample shop: in time order, a modest share, right by contract, some repeated, some late."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import decode, encode
from contracts.experiments import AbTestAssignment, AbTestOutcome
from contracts.names import stream_of
from contracts.retrieval import RagRetrieval
from contracts.voice import AudioQualityReport
from headrace.devkit.sample_experiment import CONTROL, TREATMENT
from headrace.devkit.side_step import SideStep
from headrace.devkit.side_traffic import side_plan
from headrace.devkit.tenants import TENANTS
from runtime.clock import ManualClock

OPENED_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
SEEDS = st.integers(0, 2**32)


def steps(seed: int, count: int = 200, rate_per_s: float = 20.0) -> list[SideStep]:
    clock = ManualClock(OPENED_AT, seed=seed)
    plan = side_plan(rate_per_s=rate_per_s, run="r", uniform=clock.uniform, opened_at=OPENED_AT)
    return list(itertools.islice(plan, count))


@given(SEEDS, st.sampled_from([1.0, 20.0, 200.0]))
def test_steps_come_in_the_order_of_their_due_times(seed: int, rate_per_s: float):
    times = [step.at_s for step in steps(seed, rate_per_s=rate_per_s)]
    assert times == sorted(times)
    assert times[0] >= 0


def test_they_add_about_three_tenths_to_the_shop():
    made = steps(1, 6000)
    assert 0.25 < len(made) / made[-1].at_s / 20.0 < 0.37
    kinds = Counter(step.aggregate for step in made)
    assert all(0.2 < kinds[kind] / len(made) < 0.5 for kind in ("retrieval", "experiment", "voice"))


@given(SEEDS)
def test_every_event_keeps_to_its_contract_and_goes_to_a_stream_of_its_own(seed: int):
    for step in steps(seed, 60):
        assert decode(encode(step.event), mode="strict") == (step.event, ())
        assert step.event.tenant_id in {tenant.id for tenant in TENANTS}
        assert stream_of(step.aggregate, "") == stream_of("", step.event.EVENT) != "orders"


@given(SEEDS)
def test_the_same_randomness_gives_the_same_plan(seed: int):
    assert steps(seed, 80) == steps(seed, 80)


@given(SEEDS)
def test_a_session_reports_each_second_once_and_in_order(seed: int):
    reports = defaultdict(list)
    for step in steps(seed):
        if isinstance(step.event, AudioQualityReport):
            reports[step.owner].append(step)
    for of_one in reports.values():
        events = [step.event for step in of_one]
        assert [event.seq for event in events if isinstance(event, AudioQualityReport)] == list(range(len(events)))
        assert len({event.tenant_id for event in events}) == 1
        apart = {later.ts - earlier.ts for earlier, later in itertools.pairwise(events)}
        assert apart <= {timedelta(seconds=1), timedelta(milliseconds=999), timedelta(milliseconds=1001)}
        assert all(step.at_s >= (step.event.ts - OPENED_AT).total_seconds() + 1 for step in of_one)


@given(SEEDS)
def test_a_unit_sees_one_arm_of_one_epoch_and_a_repeat_says_the_same(seed: int):
    first: dict[str, SideStep] = {}
    for step in steps(seed, 300):
        if isinstance(step.event, AbTestAssignment | AbTestOutcome):
            assert step.owner == step.event.unit
            assert step.event.event_id is not None
            assert first.setdefault(step.event.event_id, step).event == step.event
    arms = Counter(step.event.unit for step in first.values() if isinstance(step.event, AbTestAssignment))
    assert set(arms.values()) <= {1}


def test_the_experiment_has_all_that_is_hard_about_one():
    made = [step for step in steps(3, 8000) if step.aggregate == "experiment"]
    exposed: dict[str, tuple[float, AbTestAssignment]] = {}
    for step in made:
        if isinstance(step.event, AbTestAssignment):
            exposed.setdefault(step.owner, (step.at_s, step.event))
    outcomes = [step for step in made if isinstance(step.event, AbTestOutcome) and step.owner in exposed]
    assert any(step.at_s < exposed[step.owner][0] for step in outcomes), "an outcome is committed before its exposure"
    assert any(step.event.ts < exposed[step.owner][1].ts for step in outcomes), "one is from the pre-period"
    assert any(step.at_s - (step.event.ts - OPENED_AT).total_seconds() > 5 for step in made), "some are late"
    assert max(Counter(step.event.event_id for step in made if not isinstance(step.event, RagRetrieval)).values()) == 2
    assert {step.event.kind for step in outcomes if isinstance(step.event, AbTestOutcome)} == {
        "mean",
        "ratio",
        "binary",
        "quantile",
    }
    assert {event.arm for _, event in exposed.values()} == {CONTROL, TREATMENT}
    assert {event.epoch for _, event in exposed.values()} == {0, 1}


def test_searches_have_all_that_their_statistics_tell_apart():
    found = [step.event for step in steps(4, 6000) if isinstance(step.event, RagRetrieval)]
    assert {event.status for event in found} == {"ok", "error"}
    assert any(event.status == "ok" and event.results == 0 for event in found)
    assert any(event.relevance for event in found)
    assert any(event.relevance is None and event.scores for event in found)
    assert {event.index for event in found} == {"menu", "faq"}
