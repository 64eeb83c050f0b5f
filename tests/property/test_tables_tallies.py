"""Whole-number means: exact, of any size, and right."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables import tallies
from tables.tallies import Linear, Power, Tally

LINEAR = Linear(-200, 200, 1000)
POWER = Power(-100, 20)
values = st.floats(min_value=-200, max_value=200)
weighted = st.lists(st.tuples(values, st.integers(1, 1000)), min_size=1, max_size=50)


def tally(scale: tallies.Scale, pairs: list[tuple[float, int]]) -> Tally:
    made = Tally()
    for value, weight in pairs:
        made.add(scale.steps(value), weight, min)
    return made


@given(weighted)
def test_a_mean_is_right_to_half_a_step(pairs: list[tuple[float, int]]):
    exact = math.fsum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    assert tally(LINEAR, pairs).mean(LINEAR) == pytest.approx(exact, abs=0.5e-3 + 1e-9)
    assert tally(LINEAR, pairs).extreme(LINEAR) == pytest.approx(min(value for value, _ in pairs), abs=0.5e-3 + 1e-9)


@given(st.lists(st.floats(min_value=-90, max_value=10), min_size=1, max_size=50))
def test_a_mean_level_is_that_of_the_powers(levels: list[float]):
    exact = 10 * math.log10(math.fsum(10 ** (level / 10) for level in levels) / len(levels))
    assert tally(POWER, [(level, 1) for level in levels]).mean(POWER) == pytest.approx(exact, abs=0.003)


def test_two_levels_are_averaged_in_power_not_in_decibels():
    assert tally(POWER, [(-20, 1), (-40, 1)]).mean(POWER) == pytest.approx(-22.967, abs=1e-3)


def test_digital_silence_reads_as_the_lowest_level():
    assert tally(POWER, [(-200, 1)]).mean(POWER) == pytest.approx(-100)


@given(weighted, st.data())
def test_merging_any_split_gives_the_same_bits(pairs: list[tuple[float, int]], data: st.DataObject):
    cut = data.draw(st.integers(0, len(pairs)))
    shuffled = data.draw(st.permutations(pairs))
    halves = tally(LINEAR, shuffled[:cut]), tally(LINEAR, shuffled[cut:])
    assert halves[0].merged(halves[1], min) == halves[1].merged(halves[0], min) == tally(LINEAR, pairs)


@given(st.integers(-(2**200), 2**200))
def test_a_number_of_any_size_survives_its_packing(number: int):
    raw = msgspec.msgpack.encode(tallies.pack_int(number))
    assert tallies.unpack_int(msgspec.msgpack.decode(raw)) == number


@given(st.builds(Tally, st.integers(0, 2**70), st.integers(-(2**70), 2**70), st.none() | st.integers(-10, 10)))
def test_a_tally_survives_its_packing(made: Tally):
    assert tallies.unpack(tallies.pack(made)) == made
    assert tallies.unpack([*tallies.pack(made), "of a newer release"]) == made  # type: ignore[list-item]


def test_fields_that_are_not_there_yet_read_as_empty():
    assert tallies.unpack([]) == Tally()
    assert tallies.unpack([3, 12]) == Tally(3, 12)


def test_nothing_measured_has_no_mean():
    assert Tally().mean(LINEAR) is None
    assert Tally().extreme(POWER) is None
