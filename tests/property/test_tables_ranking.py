"""What holds for any ranked list."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables import ranking

grades = st.one_of(st.just(0.0), st.floats(min_value=1e-6, max_value=1e6))
ranked = st.lists(grades, max_size=30)
ks = st.integers(min_value=1, max_value=12)


@given(ranked, ks, st.integers(0, 40))
def test_all_measures_are_shares(gains: list[float], k: int, total: int):
    measured = (
        ranking.recall(gains, k, total),
        ranking.reciprocal_rank(gains),
        ranking.ndcg(gains, k, total),
        ranking.context_precision(gains),
    )
    assert all(0 <= share <= 1 + 1e-12 and math.isfinite(share) for share in measured)


@given(ranked, ks)
def test_the_best_order_has_the_best_score(gains: list[float], k: int):
    best = sorted(gains, reverse=True)
    found = any(gain > 0 for gain in gains)
    assert ranking.ndcg(best, k) == pytest.approx(float(found))
    assert ranking.context_precision(best) == pytest.approx(float(found))
    assert ranking.ndcg(gains, k) <= ranking.ndcg(best, k) + 1e-12


@given(ranked, ks, st.floats(min_value=1e-3, max_value=1e3))
def test_the_unit_of_gains_does_not_matter(gains: list[float], k: int, unit: float):
    scaled = [gain * unit for gain in gains]
    assert ranking.ndcg(scaled, k, 10) == pytest.approx(ranking.ndcg(gains, k, 10), rel=1e-9, abs=1e-12)


@given(ranked, ks)
def test_finding_more_never_lowers_recall(gains: list[float], k: int):
    assert ranking.recall(gains, k, 30) <= ranking.recall(gains, k + 1, 30)
