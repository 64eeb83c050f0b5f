"""The log-histogram's promises, for any values."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tables import sketches

latencies = st.integers(min_value=sketches.MIN_US, max_value=sketches.MAX_US)
some_latencies = st.lists(latencies, min_size=1, max_size=200)


def histogram(values: list[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for value in values:
        bucket = sketches.bucket_of(value)
        counts[bucket] = counts.get(bucket, 0) + 1
    return counts


@given(latencies)
def test_a_bucket_stands_for_its_values_within_one_percent(value: int):
    assert abs(sketches.value_of(sketches.bucket_of(value)) - value) <= value * (sketches.RELATIVE_ERROR + 1e-9)


@given(some_latencies, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[int], q: float):
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert abs(sketches.quantile(histogram(values), q) - exact) <= exact * (sketches.RELATIVE_ERROR + 1e-9)


@given(some_latencies, some_latencies)
def test_merging_equals_folding_everything_at_once(left: list[int], right: list[int]):
    assert sketches.merged(histogram(left), histogram(right)) == histogram(left + right)


@given(st.lists(st.integers(min_value=-5, max_value=2**40), max_size=100))
def test_packing_loses_nothing_also_out_of_range(values: list[int]):
    counts = histogram(values)
    assert sketches.unpack(sketches.pack(counts)) == counts


def test_values_out_of_range_are_counted_apart():
    assert sketches.bucket_of(0) == sketches.LOW
    assert sketches.bucket_of(sketches.MAX_US + 1) == sketches.HIGH
    assert sketches.bucket_of(sketches.MIN_US) > sketches.LOW
    assert sketches.bucket_of(sketches.MAX_US) < sketches.HIGH


def test_a_histogram_without_counts_has_quantile_zero():
    assert sketches.quantile({}, 0.5) == 0.0


@given(st.lists(st.integers(min_value=-5, max_value=2**40), max_size=100))
def test_a_column_gets_the_buckets_that_its_values_get_alone(values: list[int]):
    column = sketches.buckets_of(np.array(values, np.int64))
    assert column.tolist() == [sketches.bucket_of(value) for value in values]
