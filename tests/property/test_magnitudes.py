"""The histogram of measured values keeps its promises, for values of any size and sign."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tables import magnitudes
from tables.sketches import RELATIVE_ERROR

_sizes = st.floats(magnitudes.SMALLEST, magnitudes.LARGEST)
values = _sizes | _sizes.map(lambda size: -size) | st.just(0.0)


def histogram(found: list[float]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for value in found:
        bucket = magnitudes.bucket_of(value)
        counts[bucket] = counts.get(bucket, 0) + 1
    return counts


@given(values)
def test_a_bucket_stands_for_its_values_within_one_percent(value: float):
    assert abs(magnitudes.value_of(magnitudes.bucket_of(value)) - value) <= abs(value) * (RELATIVE_ERROR + 1e-9)


@given(values, values)
def test_buckets_sort_as_their_values_do(one: float, other: float):
    if magnitudes.bucket_of(one) < magnitudes.bucket_of(other):
        assert one < other


@given(st.lists(values, min_size=1, max_size=100), st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_exact_one(found: list[float], q: float):
    exact = sorted(found)[math.floor(q * (len(found) - 1))]
    (quantile,) = magnitudes.quantiles(histogram(found), (q,))
    assert quantile is not None
    assert abs(quantile - exact) <= abs(exact) * (RELATIVE_ERROR + 1e-9)


@given(st.floats(-1e-6, 1e-6, exclude_min=True, exclude_max=True))
def test_what_is_smaller_than_the_smallest_counts_as_zero(value: float):
    assert magnitudes.value_of(magnitudes.bucket_of(value)) == 0.0


@given(st.floats(1e12, 1e300))
def test_what_is_larger_than_the_largest_has_the_largest_bucket(value: float):
    assert magnitudes.bucket_of(value) == magnitudes.bucket_of(1e300)
    assert magnitudes.bucket_of(-value) == -magnitudes.bucket_of(1e300)


def test_no_values_have_no_quantiles():
    assert magnitudes.quantiles({}, (0.5, 0.95)) == (None, None)
