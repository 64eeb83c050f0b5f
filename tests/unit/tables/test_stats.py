"""Two-sample estimates agree with a public implementation, and hold where floats usually break."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tables import stats
from tables.exact_moments import SIZE, ExactMoments, steps
from tables.stats import Estimate, Measured, Moments, Undefined

CASES = json.loads((Path(__file__).parents[2] / "cases" / "experiments.json").read_text())
FREQUENTIST: dict[str, Any] = {case["id"][:2]: case for case in CASES["frequentist"]}
CUPED: dict[str, Any] = {case["id"][:2]: case for case in CASES["cuped"]}


def of_sums(n: int, sums: list[float], products: dict[tuple[int, int], float]) -> Moments:
    """Moments from the published sums and sums of products."""
    mean = np.array(sums) / n
    comoment = np.zeros((SIZE, SIZE))
    for (i, j), total in products.items():
        comoment[i, j] = comoment[j, i] = total - n * mean[i] * mean[j]
    return Moments(n, mean, comoment)


def mean_arm(arm: dict[str, Any]) -> Measured:
    return stats.mean_of(of_sums(arm["n"], [arm["sum"], 0, 0, 0], {(0, 0): arm["sum_squares"]}))


def ratio_arm(arm: dict[str, Any]) -> Measured:
    above, below = arm["m_statistic"], arm["d_statistic"]
    products = {
        (0, 0): above["sum_squares"],
        (1, 1): below["sum_squares"],
        (0, 1): arm["m_d_sum_of_products"],
    }
    measured = stats.ratio_of(of_sums(arm["n"], [above["sum"], below["sum"], 0, 0], products))
    assert measured is not None
    return measured


def cuped_arm(arm: dict[str, Any]) -> Moments:
    post, pre = arm["post_statistic"], arm["pre_statistic"]
    products = {(0, 0): post["sum_squares"], (2, 2): pre["sum_squares"], (0, 2): arm["post_pre_sum_of_products"]}
    return of_sums(arm["n"], [post["sum"], 0, pre["sum"], 0], products)


def cuped_ratio_arm(arm: dict[str, Any]) -> Moments:
    names = ("m_statistic_post", "d_statistic_post", "m_statistic_pre", "d_statistic_pre")
    products = {(i, i): arm[name]["sum_squares"] for i, name in enumerate(names)} | {
        (0, 1): arm["m_post_d_post_sum_of_products"],
        (0, 2): arm["m_post_m_pre_sum_of_products"],
        (0, 3): arm["m_post_d_pre_sum_of_products"],
        (1, 2): arm["m_pre_d_post_sum_of_products"],
        (1, 3): arm["d_post_d_pre_sum_of_products"],
        (2, 3): arm["m_pre_d_pre_sum_of_products"],
    }
    return of_sums(arm["n"], [arm[name]["sum"] for name in names], products)


def agrees(estimate: Estimate | Undefined, case: dict[str, Any]) -> None:
    assert isinstance(estimate, Estimate)
    expected = case["expected"]
    found = (estimate.value, estimate.stderr, estimate.low, estimate.high, estimate.p_value)
    told = (expected["expected"], expected["uplift"]["stddev"], *expected["ci"], expected["pValue"])
    assert found == pytest.approx(told, rel=case["rtol"])


def test_a_relative_lift_of_means_agrees_with_the_reference():
    case = FREQUENTIST["F1"]
    agrees(stats.lift(mean_arm(case["inputs"]["control"]), mean_arm(case["inputs"]["treatment"])), case)


def test_a_relative_lift_of_proportions_agrees_with_the_reference():
    case = FREQUENTIST["F3"]
    arms = [case["inputs"][name] for name in ("control", "treatment")]
    agrees(stats.lift(*(stats.proportion_of(arm["n"], int(arm["sum"])) for arm in arms)), case)


def test_a_difference_of_ratios_agrees_with_the_reference():
    case = FREQUENTIST["F5"]
    agrees(stats.difference(ratio_arm(case["inputs"]["control"]), ratio_arm(case["inputs"]["treatment"])), case)


def test_an_arm_without_variance_gives_a_reason_and_no_number():
    inputs = FREQUENTIST["F7"]["inputs"]
    control, treatment = (
        stats.proportion_of(inputs[name]["n"], int(inputs[name]["sum"])) for name in ("control", "treatment")
    )
    assert stats.lift(control, treatment) is Undefined.NO_VARIANCE
    assert stats.difference(control, treatment) is Undefined.NO_VARIANCE


def test_a_difference_of_means_with_a_covariate_agrees_with_the_reference():
    case = CUPED["C1"]
    control, treatment = (cuped_arm(case["inputs"][name]) for name in ("control", "treatment"))
    arms = stats.adjusted_means(control, treatment)
    assert arms is not None
    agrees(stats.difference(*arms), case)
    plain = stats.difference(stats.mean_of(control), stats.mean_of(treatment))
    assert isinstance(plain, Estimate)
    assert plain.stderr == pytest.approx(case["expected"]["se_without_cuped"], rel=1e-8)


def test_a_relative_lift_of_ratios_with_a_covariate_agrees_with_the_reference():
    case = CUPED["C5"]
    arms = stats.adjusted_ratios(*(cuped_ratio_arm(case["inputs"][name]) for name in ("control", "treatment")))
    assert arms is not None
    agrees(stats.lift(*arms), case)


def test_a_large_offset_costs_the_variance_nothing():
    values = [4 + 1e9, 7 + 1e9, 13 + 1e9, 16 + 1e9]
    exact = ExactMoments()
    for value in values:
        exact.replace(None, (steps(value), 0, 0, 0))
    assert stats.mean_of(stats.of_exact(exact)).variance == 30.0
    parts = [stats.moments_of([[value, 0, 0, 0]]) for value in values]
    merged = stats.merge(stats.merge(parts[0], parts[1]), stats.merge(parts[2], parts[3]))
    assert stats.mean_of(merged).variance == 30.0


def test_too_few_units_and_a_baseline_of_zero_have_no_estimate():
    one, other = stats.proportion_of(1, 1), stats.proportion_of(50, 5)
    assert stats.difference(one, other) is Undefined.TOO_FEW_UNITS
    assert stats.difference(stats.proportion_of(0, 0), other) is Undefined.TOO_FEW_UNITS
    around_zero = stats.mean_of(stats.moments_of([[-1, 0, 0, 0], [1, 0, 0, 0]]))
    assert stats.lift(around_zero, other) is Undefined.ZERO_BASELINE
    assert isinstance(stats.difference(around_zero, other), Estimate)


def test_a_ratio_without_denominators_and_a_covariate_that_does_not_vary_are_absent():
    arm = stats.moments_of([[1, 0, 5, 0], [2, 0, 5, 0]])
    assert stats.ratio_of(arm) is None
    assert stats.adjusted_means(arm, arm) is None
    assert stats.adjusted_ratios(arm, arm) is None


def test_a_wider_confidence_gives_a_wider_interval_and_the_same_p_value():
    arms = stats.proportion_of(1000, 100), stats.proportion_of(1000, 130)
    narrow, wide = stats.difference(*arms, confidence=0.9), stats.difference(*arms, confidence=0.99)
    assert isinstance(narrow, Estimate)
    assert isinstance(wide, Estimate)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert narrow.p_value == wide.p_value


@pytest.mark.parametrize("seed", range(20))
def test_what_rounding_leaves_of_a_variance_of_zero_is_no_variance(seed: int):
    random = Random(seed)
    base = [random.random() * 1e6 for _ in range(5)]
    # Ratios that are the same for every unit, and post-periods that are a multiple of the pre-periods.
    ratios = [stats.ratio_of(stats.moments_of([[x * share, x, 0, 0] for x in base])) for share in (0.1, 0.3)]
    assert ratios[0] is not None
    assert ratios[1] is not None
    assert stats.difference(ratios[0], ratios[1]) is Undefined.NO_VARIANCE
    assert stats.lift(ratios[0], ratios[1]) is Undefined.NO_VARIANCE
    arms = [stats.moments_of([[2 * x, 0, x, 0] for x in of]) for of in (base, base[:3])]
    adjusted = stats.adjusted_means(*arms)
    assert adjusted is not None
    assert stats.difference(*adjusted) is Undefined.NO_VARIANCE


def test_a_small_variance_beside_large_values_is_still_one():
    control, treatment = (
        stats.mean_of(stats.moments_of([[x + by, 0, 0, 0] for x in (4, 7, 13, 16)])) for by in (1e9, 1e9 + 1)
    )
    found = stats.difference(control, treatment)
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(1)
    assert found.stderr == pytest.approx((30 / 4 * 2) ** 0.5)


@pytest.mark.parametrize("size", [1e-140, 1e140])
def test_sizes_whose_squares_leave_the_range_of_floats_do_no_harm(size: float):
    arms = [stats.mean_of(stats.moments_of([[x * size, 0, 0, 0] for x in of])) for of in ((1, 2, 3), (3, 4, 5))]
    found = stats.difference(*arms)
    assert isinstance(found, Estimate)
    assert found.freedom == pytest.approx(4)
    assert stats.lift(arms[0]._replace(raw=5e-324), arms[1]) is Undefined.OUT_OF_RANGE
