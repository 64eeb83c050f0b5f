"""A log-histogram: quantiles within 1 % of the true value, merged by adding counts.

The mapping is DDSketch's (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019, section 2.1): bucket i holds the values in (gamma^(i-1), gamma^i] with
gamma = (1 + a) / (1 - a), and stands for 2 gamma^i / (gamma + 1), which is within a of every value in it.

Values are whole numbers, so a bucket's upper bound is floor(gamma^i), computed in exact integers: the same value gets
the same bucket on every machine, alone or in a column. A logarithm would not promise that.

Range: 1 to 3,600,000,000; in microseconds, as latencies are kept, one hour. Values outside are counted apart (LOW,
HIGH), so that a broken clock shows as such and cannot make a row grow: there are at most 1,103 buckets. The bound is
held by tests/property/test_tables_sketches.py.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import accumulate
from operator import sub

import numpy as np
from numpy.typing import NDArray

RELATIVE_ERROR = 0.01
# (1 + a) / (1 - a) as a fraction.
_GAMMA_OVER, _GAMMA_UNDER = 101, 99
GAMMA = _GAMMA_OVER / _GAMMA_UNDER
MIN_US = 1
MAX_US = 3_600_000_000
LOW = -1
HIGH = math.ceil(math.log(MAX_US) / math.log(GAMMA)) + 1


def _bounds() -> list[int]:
    over = under = 1
    bounds = []
    for _bucket in range(HIGH):
        bounds.append(over // under)
        over, under = over * _GAMMA_OVER, under * _GAMMA_UNDER
    return bounds


_BOUNDS = _bounds()
_BOUNDS_COLUMN = np.array(_BOUNDS, np.int64)


def bucket_of(value: int) -> int:
    """The bucket of a value; LOW below 1, HIGH above MAX_US."""
    if value < MIN_US:
        return LOW
    if value > MAX_US:
        return HIGH
    return bisect_left(_BOUNDS, value)


def buckets_of(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each value of a column, shape (n,); the same as `bucket_of` gives."""
    buckets = np.searchsorted(_BOUNDS_COLUMN, values)
    buckets[values < MIN_US] = LOW
    buckets[values > MAX_US] = HIGH
    return buckets


def value_of(bucket: int) -> float:
    """The value that stands for a bucket: 0 for LOW, MAX_US for HIGH."""
    if bucket == LOW:
        return 0.0
    if bucket == HIGH:
        return float(MAX_US)
    return 2.0 * GAMMA**bucket / (GAMMA + 1.0)


def quantile(counts: Mapping[int, int], q: float) -> float:
    """The q-quantile (0 <= q <= 1), by the rank floor(q * (n - 1)); 0 when there are no counts."""
    return quantiles(counts, (q,))[0]


def quantiles(counts: Mapping[int, int], qs: tuple[float, ...]) -> tuple[float, ...]:
    """Several quantiles, ascending, in one pass; see `quantile`."""
    return tuple(map(value_of, buckets_at(counts, qs))) or (0.0,) * len(qs)


def buckets_at(counts: Mapping[int, int], qs: tuple[float, ...]) -> tuple[int, ...]:
    """The buckets of several quantiles, ascending; nothing when there are no counts."""
    buckets = sorted(counts)
    seen = list(accumulate(map(counts.__getitem__, buckets)))
    return tuple(buckets[bisect_right(seen, math.floor(q * (seen[-1] - 1)))] for q in qs) if seen else ()


def merged(left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
    """Both histograms as one; commutative, associative, exact."""
    out = dict(left)
    for bucket, count in right.items():
        out[bucket] = out.get(bucket, 0) + count
    return out


def pack(counts: Mapping[int, int]) -> list[int]:
    """The histogram as [first bucket, count, gap, count, ...]: small numbers, one byte each in MessagePack."""
    buckets = sorted(counts)
    packed = [0] * (2 * len(buckets))
    packed[::2] = map(sub, buckets, [0, *buckets])
    packed[1::2] = map(counts.__getitem__, buckets)
    return packed


def unpack(packed: list[int]) -> dict[int, int]:
    """What `pack` was given."""
    counts: dict[int, int] = {}
    bucket = 0
    for index in range(0, len(packed), 2):
        bucket += packed[index]
        counts[bucket] = packed[index + 1]
    return counts
