"""A log-histogram of measured values of either sign: quantiles within 1 %, merged (and unmerged) by counts. Pure.

The mapping is DDSketch's, as in tables.sketches, but over sizes from 1e-6 to 1e12: a metric may be in any unit. Smaller
sizes count as 0, larger ones (no contract lets them in) as the largest bucket. Buckets sort as their values do:

    bucket   -i (negative)     0 (zero)     i (positive), for sizes in 1e-6 * (gamma^(i-2), gamma^(i-1)], i >= 1

The bounds are rounded from exact fractions, so that a value gets the same bucket on every machine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from fractions import Fraction

from tables.sketches import GAMMA, buckets_at

SMALLEST = 1e-6
LARGEST = 1e12

_GAMMA_EXACT = Fraction(101, 99)


def _bounds() -> list[float]:
    """Upper bounds of the sizes in buckets 1, 2, ... up to the first that covers LARGEST.

    The fractions are rounded to 128 binary digits on the way: exact ones would grow to thousands, and 2,000 roundings
    of 2**-128 stay far below one of a float.
    """
    scale = 1 << 128
    bound = Fraction(1, 10**6)
    bounds = [float(bound)]
    while bounds[-1] < LARGEST:
        bound = Fraction(round(bound * _GAMMA_EXACT * scale), scale)
        bounds.append(float(bound))
    return bounds


_BOUNDS = _bounds()
# The value of bucket i: within the relative error of everything between its bounds.
_TO_MIDDLE = 2.0 / (GAMMA + 1.0)


def bucket_of(value: float) -> int:
    """The bucket of a finite value."""
    size = abs(value)
    if size < SMALLEST:
        return 0
    bucket = 1 + min(bisect_left(_BOUNDS, size), len(_BOUNDS) - 1)
    return bucket if value > 0 else -bucket


def value_of(bucket: int) -> float:
    """The value that stands for a bucket."""
    if bucket == 0:
        return 0.0
    size = _BOUNDS[abs(bucket) - 1] * _TO_MIDDLE
    return size if bucket > 0 else -size


def quantiles(counts: Mapping[int, int], qs: tuple[float, ...]) -> tuple[float | None, ...]:
    """Several quantiles (ascending, 0 to 1), by the rank floor(q * (n - 1)); all None when there are no counts."""
    return tuple(map(value_of, buckets_at(counts, qs))) or (None,) * len(qs)
