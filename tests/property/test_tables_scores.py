"""The histogram of scores: within 1 %, of either sign, in order."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tables import scores

in_range = st.floats(min_value=1e-6, max_value=scores.LARGEST)
# The contract's range.
any_score = st.floats(min_value=-1e12, max_value=1e12)


@given(in_range, st.sampled_from([1, -1]))
def test_a_bucket_stands_for_its_scores_within_one_percent(size: float, sign: int):
    # Half a millionth is rounded away before: it matters for scores close to a millionth.
    assert scores.value_of(scores.bucket_of(sign * size)) == pytest.approx(sign * size, rel=0.0101, abs=0.6e-6)


@given(any_score, any_score)
def test_buckets_sort_as_scores_do(left: float, right: float):
    assume(left < right)
    assert scores.bucket_of(left) <= scores.bucket_of(right)
    assert scores.value_of(scores.bucket_of(left)) <= scores.value_of(scores.bucket_of(right))


@given(st.lists(st.floats(min_value=-1, max_value=1), min_size=1, max_size=100), st.floats(min_value=0, max_value=1))
def test_a_quantile_is_within_one_percent_of_the_exact_one(similarities: list[float], q: float):
    counts: dict[int, int] = {}
    for similarity in similarities:
        bucket = scores.bucket_of(similarity)
        counts[bucket] = counts.get(bucket, 0) + 1
    exact = sorted(similarities)[math.floor(q * (len(similarities) - 1))]
    assert scores.quantiles(counts, (q,))[0] == pytest.approx(exact, rel=0.0101, abs=0.6e-6)


def test_scores_beyond_the_range_are_held_at_its_ends():
    assert scores.value_of(scores.bucket_of(1e12)) == pytest.approx(scores.LARGEST, rel=0.01)
    assert scores.value_of(scores.bucket_of(-1e12)) == pytest.approx(-scores.LARGEST, rel=0.01)
    assert scores.value_of(scores.bucket_of(1e-9)) == scores.value_of(scores.bucket_of(0.0)) == 0.0


def test_no_scores_have_no_quantile():
    assert scores.quantiles({}, (0.1, 0.5)) == (None, None)
