"""How good one ranked result list is: recall, reciprocal rank, discounted gain, context precision. Pure.

All take gains in rank order, best rank first: 0 is not relevant, above 0 is relevant, more is better. All give 0 to 1.

`relevant_total` says how many relevant documents exist at all, returned or not; None when nobody counted. Where there
are fewer than were found, those found count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import mul


def recall(gains: Sequence[float], k: int, relevant_total: int) -> float:
    """Share of the relevant documents that stand among the first k; 0 when none exists."""
    found = sum(gain > 0 for gain in gains[:k])
    most = max(relevant_total, sum(gain > 0 for gain in gains))
    return found / most if most else 0.0


def reciprocal_rank(gains: Sequence[float]) -> float:
    """1 over the rank (from 1) of the first relevant document, 0 when there is none; its mean over queries is MRR."""
    return next((1.0 / rank for rank, gain in enumerate(gains, start=1) if gain > 0), 0.0)


def ndcg(gains: Sequence[float], k: int, relevant_total: int | None = None) -> float:
    """Discounted gain of the first k over that of the best possible order; 0 when nothing relevant was found.

    Gains count as they are and rank i is divided by log2(i + 1) (Jarvelin and Kekalainen, "Cumulated gain-based
    evaluation of IR techniques", TOIS 20(4), 2002; not the 2^gain - 1 of later papers). Relevant documents that were
    not returned stand in the best order with the smallest gain that was found: of them only the number is known.
    """
    found = [gain for gain in gains if gain > 0]
    if not found:
        return 0.0
    top = max(found)  # gains may be as large as floats go; their ratio is what counts
    missed = min(max(0, (relevant_total or 0) - len(found)), k)
    best = sorted(found, reverse=True)[:k] + [min(found)] * missed
    return _discounted([gain / top for gain in gains[:k]]) / _discounted([gain / top for gain in best[:k]])


def context_precision(gains: Sequence[float]) -> float:
    """Mean of the precision at each relevant rank (RAGAS' context precision); 0 when nothing relevant was found."""
    precisions: list[float] = []
    for rank, gain in enumerate(gains, start=1):
        if gain > 0:
            precisions.append((len(precisions) + 1) / rank)
    return math.fsum(precisions) / len(precisions) if precisions else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(map(mul, gains, _discounts(len(gains))))


@lru_cache(maxsize=64)
def _discounts(k: int) -> tuple[float, ...]:
    return tuple(1.0 / math.log2(rank + 1) for rank in range(1, k + 1))
