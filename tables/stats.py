"""Plain two-sample statistics of an experiment's arms, from moments that merge. Pure.

An arm is n units with four totals each (tables.exact_moments); `Moments` holds their mean vector and co-moment matrix.
A metric is a smooth function of the mean vector, and the delta method gives the variance that one unit contributes
(`Measured`). Two measured arms give a difference or a relative lift with Welch's interval and p-value (`Estimate`),
valid at one planned look. Formulas as in gbstats (growthbook/growthbook, packages/stats), whose results
tests/cases/experiments.json holds.

The only importer of numpy and scipy among the tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from scipy import special  # type: ignore[import-untyped]  # ships no types

from tables.exact_moments import DEN_POST, DEN_PRE, NUM_POST, NUM_PRE, SIZE, ExactMoments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Vector: TypeAlias = NDArray[np.float64]

MIN_UNITS = 2
# A sum of terms is taken for 0 when it is a smaller share of their sizes than this: rounding left it over.
_ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Moments:
    """n units: the mean of their four totals, and the sums of products of deviations from it (4 x 4, symmetric)."""

    n: int
    mean: Vector
    comoment: Vector

    @property
    def covariance(self) -> Vector:
        """The sample covariance matrix (divisor n - 1); zeros below two units."""
        return self.comoment / max(self.n - 1, 1)


def moments_of(totals: ArrayLike) -> Moments:
    """The moments of units given one a row: num_post, den_post, num_pre, den_pre. Two passes."""
    rows = np.asarray(totals, dtype=np.float64).reshape(-1, SIZE)
    if not len(rows):
        return Moments(0, np.zeros(SIZE), np.zeros((SIZE, SIZE)))
    mean = rows.mean(axis=0)
    apart = rows - mean
    return Moments(len(rows), mean, apart.T @ apart)


def of_exact(exact: ExactMoments, n: int | None = None) -> Moments:
    """Exact sums as moments; `n` counts further units whose totals are all 0 (exposed, and nothing happened)."""
    count = exact.n if n is None else n
    places = range(SIZE)
    mean = np.array([exact.mean(i, count) for i in places])
    return Moments(count, mean, np.array([[exact.comoment(i, j, count) for j in places] for i in places]))


def merge(left: Moments, right: Moments) -> Moments:
    """Both sets of units as one (Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm", 1979)."""
    n = left.n + right.n
    if not n:
        return left
    apart = right.mean - left.mean
    mean = left.mean + apart * (right.n / n)
    return Moments(n, mean, left.comoment + right.comoment + np.outer(apart, apart) * (left.n * right.n / n))


class Measured(NamedTuple):
    """A metric in one arm: its value, and the variance that one unit contributes to it.

    With a covariate the value and its variance are adjusted; `raw` and `raw_variance` are the unadjusted ones, and
    `covariance` is between the two. Without one all three variances are equal.
    """

    n: int
    value: float
    variance: float
    raw: float
    raw_variance: float
    covariance: float

    @property
    def stderr(self) -> float:
        """The standard error of the value."""
        return math.sqrt(max(self.variance, 0.0) / self.n) if self.n else 0.0


def mean_of(arm: Moments) -> Measured:
    """The mean of num_post over units."""
    variance = float(arm.covariance[NUM_POST, NUM_POST])
    return _plain(arm.n, float(arm.mean[NUM_POST]), variance)


def proportion_of(n: int, successes: int) -> Measured:
    """The share of n units that succeeded, with the binomial variance p (1 - p)."""
    share = successes / n if n else 0.0
    return _plain(n, share, share * (1.0 - share))


def ratio_of(arm: Moments) -> Measured | None:
    """Sum of num_post over sum of den_post, with a variance by the delta method; None when the denominators sum to 0.

    Units are independent, their events are not: that is what the delta method over units keeps right.
    """
    slope = _slope(arm, NUM_POST, DEN_POST)
    if slope is None:
        return None
    value, gradient = slope
    return _plain(arm.n, value, _product(gradient, arm.covariance, gradient))


def adjusted_means(control: Moments, treatment: Moments) -> tuple[Measured, Measured] | None:
    """Both means less theta times the pre-period's (CUPED: Deng, Xu, Kohavi, Walker, WSDM 2013).

    theta is the covariance of post and pre over the variance of pre, of all units of both arms taken as one sample.
    None when the pre-period does not vary.
    """
    both = merge(control, treatment).comoment
    if both[NUM_PRE, NUM_PRE] <= 0:
        return None
    theta = float(both[NUM_POST, NUM_PRE] / both[NUM_PRE, NUM_PRE])
    post, pre = np.eye(SIZE)[NUM_POST], np.eye(SIZE)[NUM_PRE]
    arms = [
        _adjusted(arm, float(arm.mean[NUM_POST]), float(arm.mean[NUM_PRE]), post, pre, theta)
        for arm in (control, treatment)
    ]
    return arms[0], arms[1]


def adjusted_ratios(control: Moments, treatment: Moments) -> tuple[Measured, Measured] | None:
    """Both ratios less theta times the pre-period's ratio, over the 4 x 4 covariance by the delta method.

    theta is the arms' pooled covariance of the linearised ratios over the pooled variance of the pre-period's.
    None when a denominator sums to 0 or the pre-period does not vary.
    """
    slopes = []
    above = below = 0.0
    for arm in (control, treatment):
        post, pre = _slope(arm, NUM_POST, DEN_POST), _slope(arm, NUM_PRE, DEN_PRE)
        if post is None or pre is None:
            return None
        above += float(post[1] @ arm.comoment @ pre[1])
        below += float(pre[1] @ arm.comoment @ pre[1])
        slopes.append((arm, post[0], pre[0], post[1], pre[1]))
    if below <= 0:
        return None
    arms = [_adjusted(*slope, above / below) for slope in slopes]
    return arms[0], arms[1]


class Undefined(StrEnum):
    """Why there is no estimate."""

    TOO_FEW_UNITS = "an arm has fewer than 2 units"
    NO_VARIANCE = "a metric does not vary within an arm"
    ZERO_BASELINE = "the control arm's value is 0"
    OUT_OF_RANGE = "the estimate is beyond the range of floats"


class Estimate(NamedTuple):
    """A treatment's effect: its interval holds the true value with the confidence asked for; p_value is two-sided."""

    value: float
    stderr: float
    freedom: float
    low: float
    high: float
    p_value: float


def difference(control: Measured, treatment: Measured, *, confidence: float = 0.95) -> Estimate | Undefined:
    """By how much the treatment is above the control, by Welch's t."""
    problem = _problem(control, treatment)
    if problem is not None:
        return problem
    squared = (control.variance / control.n, treatment.variance / treatment.n)
    return _estimate(treatment.value - control.value, squared, control, treatment, confidence)


def lift(control: Measured, treatment: Measured, *, confidence: float = 0.95) -> Estimate | Undefined:
    """(treatment - control) / control: 0.05 is +5 %. The control's own noise counts, by the delta method.

    With a covariate the adjusted difference is divided by the control's unadjusted value.
    """
    problem = _problem(control, treatment)
    if problem is not None:
        return problem
    if control.raw == 0:
        return Undefined.ZERO_BASELINE
    value = (treatment.value - control.value) / control.raw
    # The gradient over the control's (adjusted, unadjusted) value is (-1, -lift) / unadjusted.
    terms = (
        treatment.variance / treatment.n,
        control.variance / control.n,
        2 * value * control.covariance / control.n,
        value * value * control.raw_variance / control.n,
    )
    squared = [term / control.raw / control.raw for term in terms]
    return _estimate(value, squared, control, treatment, confidence)


def _plain(n: int, value: float, variance: float) -> Measured:
    return Measured(n, value, variance, value, variance, variance)


def _slope(arm: Moments, above: int, below: int) -> tuple[float, Vector] | None:
    """A ratio of two means and its gradient over the mean vector; None when it divides by 0."""
    if arm.mean[below] == 0:
        return None
    value = float(arm.mean[above] / arm.mean[below])
    gradient = np.zeros(SIZE)
    gradient[above], gradient[below] = 1.0 / arm.mean[below], -value / arm.mean[below]
    return value, gradient


def _product(left: Vector, covariance: Vector, right: Vector) -> float:
    """The product of a row, the covariance and a column."""
    terms: list[float] = np.ravel(left[:, np.newaxis] * covariance * right).tolist()
    return _total(terms)


def _total(terms: Sequence[float]) -> float:
    """The sum; 0 where the terms cancel each other out but for their rounding."""
    total = sum(terms)
    return 0.0 if math.isfinite(total) and abs(total) <= _ROUNDING * sum(map(abs, terms)) else total


def _adjusted(arm: Moments, post: float, pre: float, to_post: Vector, to_pre: Vector, theta: float) -> Measured:
    """A value less theta times its pre-period's; `to_post` and `to_pre` are their gradients."""
    gradient, covariance = to_post - theta * to_pre, arm.covariance
    return Measured(
        arm.n,
        post - theta * pre,
        _product(gradient, covariance, gradient),
        post,
        _product(to_post, covariance, to_post),
        _product(gradient, covariance, to_post),
    )


def _problem(control: Measured, treatment: Measured) -> Undefined | None:
    if min(control.n, treatment.n) < MIN_UNITS:
        return Undefined.TOO_FEW_UNITS
    if min(control.variance, treatment.variance) <= 0:
        return Undefined.NO_VARIANCE
    return None


def _estimate(
    value: float, squared: Sequence[float], control: Measured, treatment: Measured, confidence: float
) -> Estimate | Undefined:
    """`squared` are the terms of the squared standard error; degrees of freedom by Welch and Satterthwaite."""
    total = _total(squared)
    if total <= 0:
        return Undefined.NO_VARIANCE
    largest = max(arm.variance / arm.n for arm in (control, treatment))
    shares = [(arm.variance / arm.n / largest, arm.n - 1) for arm in (control, treatment)]
    freedom = sum(share for share, _ in shares) ** 2 / sum(share**2 / below for share, below in shares)
    stderr = math.sqrt(total)
    half = stderr * float(special.stdtrit(freedom, (1.0 + confidence) / 2.0))
    p_value = 2.0 * float(special.stdtr(freedom, -abs(value) / stderr))
    estimate = Estimate(value, stderr, freedom, value - half, value + half, p_value)
    return estimate if all(map(math.isfinite, estimate)) else Undefined.OUT_OF_RANGE
