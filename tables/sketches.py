"""A log-histogram: quantiles within 1 % of the true value, merged by adding counts.

The mapping is DDSketch's (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019, section 2.1): bucket i holds the values in (gamma^(i-1), gamma^i] with
gamma = (1 + a) / (1 - a), and stands for 2 gamma^i / (gamma + 1), which is within a of every value in it.

Range: 1 microsecond to 1 hour, in microseconds. Values outside are counted apart (LOW, HIGH), so that a broken clock
shows as such and cannot make a row grow: there are at most 1,101 buckets. The bound is held by
tests/property/test_tables_sketches.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
MIN_US = 1
MAX_US = 3_600_000_000
LOW = -1
HIGH = math.ceil(math.log(MAX_US) / math.log(GAMMA)) + 1

_PER_LOG = 1.0 / math.log(GAMMA)


def bucket_of(value_us: int) -> int:
    """The bucket of a value in microseconds; LOW below 1, HIGH above one hour."""
    if value_us < MIN_US:
        return LOW
    if value_us > MAX_US:
        return HIGH
    return math.ceil(math.log(value_us) * _PER_LOG)


def value_of(bucket: int) -> float:
    """The value, in microseconds, that stands for a bucket: 0 for LOW, one hour for HIGH."""
    if bucket == LOW:
        return 0.0
    if bucket == HIGH:
        return float(MAX_US)
    return 2.0 * GAMMA**bucket / (GAMMA + 1.0)


def quantile(counts: Mapping[int, int], q: float) -> float:
    """The q-quantile in microseconds (0 <= q <= 1), by the rank floor(q * (n - 1)); 0 when there are no counts."""
    bucket = bucket_at(counts, q)
    return 0.0 if bucket is None else value_of(bucket)


def bucket_at(counts: Mapping[int, int], q: float) -> int | None:
    """The bucket that holds the q-quantile; None when there are no counts."""
    rank = math.floor(q * (sum(counts.values()) - 1))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen > rank:
            return bucket
    return None


def merged(left: Mapping[int, int], right: Mapping[int, int]) -> dict[int, int]:
    """Both histograms as one; commutative, associative, exact."""
    out = dict(left)
    for bucket, count in right.items():
        out[bucket] = out.get(bucket, 0) + count
    return out


def pack(counts: Mapping[int, int]) -> list[int]:
    """The histogram as [first bucket, count, gap, count, ...]: small numbers, one byte each in MessagePack."""
    packed: list[int] = []
    previous = 0
    for bucket in sorted(counts):
        packed += (bucket - previous, counts[bucket])
        previous = bucket
    return packed


def unpack(packed: list[int]) -> dict[int, int]:
    """What `pack` was given."""
    counts: dict[int, int] = {}
    bucket = 0
    for index in range(0, len(packed), 2):
        bucket += packed[index]
        counts[bucket] = packed[index + 1]
    return counts
