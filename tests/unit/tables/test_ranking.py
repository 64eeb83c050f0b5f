"""Ranking metrics against published examples."""

from __future__ import annotations

import pytest

from tables import ranking


def test_context_precision_of_the_third_and_fourth_of_five():
    assert ranking.context_precision([0, 0, 1, 1, 0]) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert ranking.context_precision([0, 0, 1, 1, 0]) == pytest.approx(0.4167, abs=5e-5)


@pytest.mark.parametrize(("gains", "precision"), [([1, 1, 0], 1.0), ([0, 1], 0.5), ([0, 0], 0.0), ([], 0.0)])
def test_context_precision_is_one_when_the_relevant_stand_first(gains: list[float], precision: float):
    assert ranking.context_precision(gains) == precision


def test_mean_reciprocal_rank_of_three_queries():
    """The example of the Wikipedia article: ranks 3, 2 and 1 make 11/18."""
    queries = ([0, 0, 1], [0, 1, 0], [1, 0, 0])
    assert sum(map(ranking.reciprocal_rank, queries)) / 3 == pytest.approx(11 / 18)
    assert ranking.reciprocal_rank([0, 0]) == 0.0


def test_discounted_gain_of_six_graded_results():
    """The example of the Wikipedia article: 3, 2, 3, 0, 1, 2 has DCG 6.861, ideally 7.141 of these six documents."""
    assert ranking.ndcg([3, 2, 3, 0, 1, 2], 6) == pytest.approx(6.861 / 7.141, abs=1e-4)


def test_documents_that_were_not_returned_stand_in_the_best_order():
    assert ranking.ndcg([1, 0], 5, relevant_total=1) == 1.0
    # One of two was found: 1 over 1 + 1/log2(3).
    assert ranking.ndcg([1, 0], 5, relevant_total=2) == pytest.approx(0.6131, abs=1e-4)
    assert ranking.ndcg([1, 0], 1, relevant_total=2) == 1.0


def test_discounted_gain_of_the_first_k_alone():
    assert ranking.ndcg([0, 0, 1], 2) == 0.0
    assert ranking.ndcg([], 5) == 0.0


def test_recall_counts_what_stands_among_the_first_k():
    gains = [1, 0, 1, 0, 0, 1]
    assert [ranking.recall(gains, k, 4) for k in (1, 3, 5, 10)] == [0.25, 0.5, 0.5, 0.75]
    assert ranking.recall(gains, 10, 0) == 1.0
    assert ranking.recall([0, 0], 10, 0) == 0.0
