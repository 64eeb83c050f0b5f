"""A histogram of relevance scores, of either sign: quantiles within 1 %, merged by adding counts. Pure.

The size of a score goes into a bucket of `tables.sketches`, in millionths: from 1e-6 to 3,600 the 1 % holds; smaller
ones count as 0, larger ones as 3,600. Cosine similarities, BM25 and logits all fit. Buckets sort as their scores do:

    bucket   -2 - b (negative, of size b)     -1 (zero)     b (positive, of size b)
"""

from __future__ import annotations

from collections.abc import Mapping

from tables import sketches

ZERO = -1
_STEPS = 1_000_000
LARGEST = sketches.MAX_US / _STEPS


def bucket_of(score: float) -> int:
    """The bucket of a finite score."""
    size = sketches.bucket_of(round(min(abs(score), LARGEST) * _STEPS))
    if size == sketches.LOW:
        return ZERO
    return size if score > 0 else -2 - size


def value_of(bucket: int) -> float:
    """The score that stands for a bucket."""
    if bucket == ZERO:
        return 0.0
    return sketches.value_of(bucket) / _STEPS if bucket > ZERO else -sketches.value_of(-2 - bucket) / _STEPS


def quantiles(counts: Mapping[int, int], qs: tuple[float, ...]) -> tuple[float | None, ...]:
    """Several quantiles, ascending (0 <= q <= 1), by the rank floor(q * (n - 1)); None when there are no counts."""
    return tuple(map(value_of, sketches.buckets_at(counts, qs))) or (None,) * len(qs)
