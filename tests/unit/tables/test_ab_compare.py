"""Arms are compared over all units assigned to them, each ramp epoch by itself."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.experiments import MetricKind
from tables import stats
from tables.ab_compare import Against, Arm, Result, compare
from tables.ab_contributions import contribution_of
from tables.ab_results import ASSIGNED, AbState, subject_of
from tables.ab_units import Outcome
from tables.rows import Subject
from tables.stats import Estimate, Undefined


class Rows:
    """Rows of one tenant, filled as if by units."""

    def __init__(self) -> None:
        self.rows: dict[Subject, AbState] = {}

    def unit(self, arm: str, *outcomes: tuple[str, MetricKind, float, float, int], epoch: int = 0) -> None:
        """One unit, first exposed at 10; an outcome is (metric, kind, value, denominator, time)."""
        self._row(arm, ASSIGNED, epoch).assign(1, conflict=False)
        for metric, kind, value, below, ts_ms in outcomes:
            share = contribution_of(kind, [Outcome(ts_ms, value, below)], 10)
            self._row(arm, metric, epoch).change(kind, None, share)

    def _row(self, arm: str, metric: str, epoch: int) -> AbState:
        return self.rows.setdefault(subject_of("x", epoch, arm, metric), AbState())

    def compared(self, control_arm: str = "control") -> list[Result]:
        return compare(self.rows, control_arm=control_arm)


def estimate(found: object) -> Estimate:
    assert isinstance(found, Estimate)
    return found


def arm_of(result: Result, name: str) -> Arm:
    return next(arm for arm in result.arms if arm.name == name)


def against(result: Result, name: str) -> Against:
    found = arm_of(result, name).against
    assert found is not None
    return found


def test_units_without_the_metric_count_with_a_total_of_zero():
    rows = Rows()
    for value in (1.0, 2.0, 3.0):
        rows.unit("control", ("spend", "mean", value, 0, 20))
        rows.unit("b", ("spend", "mean", value + 1, 0, 20))
    for _ in range(3):
        rows.unit("control")
        rows.unit("b")
    (result,) = rows.compared()
    control, b = arm_of(result, "control"), arm_of(result, "b")
    assert (control.units, control.n, control.value, control.against) == (6, 3, 1.0, None)
    assert (b.units, b.n, b.value) == (6, 3, 1.5)
    direct = stats.difference(
        *(
            stats.mean_of(stats.moments_of([[v, 0, 0, 0] for v in values]))
            for values in ([1, 2, 3, 0, 0, 0], [2, 3, 4, 0, 0, 0])
        )
    )
    assert estimate(against(result, "b").difference) == pytest.approx(estimate(direct))


def test_conversions_are_of_all_units_assigned():
    rows = Rows()
    bought: tuple[str, MetricKind, float, float, int] = ("bought", "binary", 1.0, 0, 20)
    for index in range(100):
        rows.unit("control", *([bought] if index < 10 else []))
        rows.unit("b", *([bought] if index < 20 else []))
    (result,) = rows.compared()
    assert [arm.value for arm in result.arms] == [0.2, 0.1]
    assert estimate(against(result, "b").lift).value == pytest.approx(1.0)
    assert against(result, "b").adjusted_lift is None


def test_epochs_are_never_pooled_and_an_arm_without_units_is_left_out():
    rows = Rows()
    for epoch in (0, 1):
        rows.unit("control", ("spend", "mean", 1.0, 0, 20), epoch=epoch)
        rows.unit("b", ("spend", "mean", 5.0, 0, 20), epoch=epoch)
    rows.rows["x", "1", "gone", ASSIGNED] = AbState()
    found = rows.compared()
    assert [(result.epoch, [arm.name for arm in result.arms]) for result in found] == [
        (0, ["b", "control"]),
        (1, ["b", "control"]),
    ]
    assert against(found[0], "b").difference is Undefined.TOO_FEW_UNITS


def test_without_an_arm_of_the_control_name_the_first_by_name_is_the_control():
    rows = Rows()
    for arm in ("blue", "green"):
        rows.unit(arm, ("spend", "mean", 1.0, 0, 20))
    (result,) = rows.compared()
    assert result.control == "blue"
    assert rows.compared("green")[0].control == "green"


def test_a_pre_period_that_explains_the_outcome_narrows_the_interval():
    rows, draw = Rows(), np.random.default_rng(5)
    for arm, more in (("control", 0.0), ("b", 0.5)):
        for _ in range(200):
            pre = float(draw.normal(10, 3))
            rows._row(arm, ASSIGNED, 0).assign(1, conflict=False)
            outcomes = [Outcome(5, pre, 1.0), Outcome(20, pre + more + float(draw.normal(0, 1)), 1.0)]
            rows._row(arm, "spend", 0).change("mean", None, contribution_of("mean", outcomes, 10))
            rows._row(arm, "per_visit", 0).change("ratio", None, contribution_of("ratio", outcomes, 10))
    for result in rows.compared():
        found = against(result, "b")
        plain, adjusted = estimate(found.difference), estimate(found.adjusted_difference)
        assert adjusted.stderr < 0.5 * plain.stderr
        assert adjusted.low < 0.5 < adjusted.high


def test_quantiles_are_told_without_an_interval():
    rows = Rows()
    for value in range(1, 101):
        rows.unit("control", ("wait", "quantile", float(value), 0, 20))
    (result,) = rows.compared()
    (arm,) = result.arms
    assert arm.p50 == pytest.approx(50, rel=0.01)
    assert arm.p95 == pytest.approx(95, rel=0.01)
    assert (arm.n, arm.values, arm.value, arm.against) == (100, 100, None, None)


def test_a_ratio_without_denominators_has_no_value():
    rows = Rows()
    for arm in ("control", "b"):
        rows.unit(arm, ("ctr", "ratio", 0.0, 0.0, 20))
    (result,) = rows.compared()
    assert [(arm.value, arm.against) for arm in result.arms] == [(None, None)] * 2
