"""Exact sums keep their promises: any order, any merging, any removal, and what numpy says of the same units."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables import stats
from tables.exact_moments import SIZE, STEP_BITS, ExactMoments, Totals, steps, unpack

Unit = tuple[float, float, float, float]

_value = st.floats(-1e12, 1e12) | st.floats(-1, 1) | st.integers(-5, 5).map(float)
_unit = st.tuples(_value, _value, _value, _value)
_units = st.lists(_unit, max_size=30)


def totals(unit: Unit) -> Totals:
    a, b, c, d = map(steps, unit)
    return a, b, c, d


def exact_of(units: list[Unit]) -> ExactMoments:
    made = ExactMoments()
    for unit in units:
        made.replace(None, totals(unit))
    return made


@given(_value)
def test_a_value_is_exact_down_to_4e_9_and_within_half_a_step_below(value: float):
    error = abs(Fraction(steps(value), 1 << STEP_BITS) - Fraction(value))
    assert error <= (0 if abs(value) >= 4e-9 else Fraction(1, 2 << STEP_BITS))


@given(_units, _units, st.randoms(use_true_random=False))
def test_order_merging_and_removal_leave_the_same_bits(kept: list[Unit], gone: list[Unit], random: Random):
    direct = exact_of(kept)
    shuffled = [*kept, *gone]
    random.shuffle(shuffled)
    cut = random.randint(0, len(shuffled))
    parts = [exact_of(part) for part in (shuffled[:cut], shuffled[cut:])]
    merged = parts[1].merged(parts[0])
    for unit in gone:
        merged.replace(totals(unit), None)
    assert merged == direct
    assert msgspec.msgpack.encode(merged.pack()) == msgspec.msgpack.encode(direct.pack())
    assert unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(merged.pack()))) == direct


@given(st.lists(_unit, min_size=1, max_size=30), st.integers(0, 5))
def test_means_and_co_moments_are_the_true_ones_rounded_once(units: list[Unit], idle: int):
    exact, n = exact_of(units), len(units) + idle
    columns = [
        [Fraction(x, 1 << STEP_BITS) for x in column] + [Fraction(0)] * idle
        for column in zip(*map(totals, units), strict=True)
    ]
    means = [sum(column, Fraction(0)) / n for column in columns]
    assert [exact.mean(i, n) for i in range(SIZE)] == [float(mean) for mean in means]
    for i in range(SIZE):
        for j in range(SIZE):
            true = sum(
                ((a - means[i]) * (b - means[j]) for a, b in zip(columns[i], columns[j], strict=True)), Fraction(0)
            )
            assert exact.comoment(i, j, n) == float(true)


@given(st.lists(st.lists(_unit, max_size=12), min_size=1, max_size=6))
def test_merging_by_chan_equals_the_moments_of_all_units(groups: list[list[Unit]]):
    merged = stats.moments_of([])
    for group in groups:
        merged = stats.merge(merged, stats.of_exact(exact_of(group)))
    whole = stats.of_exact(exact_of([unit for group in groups for unit in group]))
    assert merged.n == whole.n
    largest = np.max(np.abs([unit for group in groups for unit in group] or [(0.0, 0.0, 0.0, 0.0)]), axis=0)
    assert np.all(np.abs(merged.mean - whole.mean) <= 1e-12 * largest + 1e-24)
    assert np.all(np.abs(merged.comoment - whole.comoment) <= 1e-12 * whole.n * np.outer(largest, largest) + 1e-24)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_stay_within_what_a_batch_allows_for_them(sign: int):
    """A billion units with a hundred thousand outcomes of 1e12 each: 45 bytes for a number."""
    total = sign * 100_000 * steps(1e12)
    made = ExactMoments(10**9, [10**9 * total] * SIZE, [10**9 * total * total] * 10)
    assert len(msgspec.msgpack.encode(made.pack())) <= 14 * 45 + 10
