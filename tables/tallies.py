"""Means and extremes of measured values, as whole numbers: the same bits under any order and any batching. Pure.

A value becomes a whole number of steps first; a Scale says how large a step is. Steps are summed with whole weights.
Integer sums have no rounding of their own, so that a mean is wrong by at most half a step. Nothing overflows:
MessagePack ends at 64 bits, and a larger number is packed as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

_LEAST, _MOST = -(2**63), 2**63 - 1


class Scale(Protocol):
    """How a measured value becomes a whole number of steps; what lies outside its range counts as the nearest end."""

    def steps(self, value: float) -> int:
        """The nearest whole number of steps of a finite value."""
        ...

    def value(self, steps: float) -> float:
        """The value that some steps stand for."""
        ...


@dataclass(frozen=True)
class Linear:
    """`per_unit` steps for 1; means are arithmetic."""

    low: float
    high: float
    per_unit: int

    def steps(self, value: float) -> int:
        """See `Scale`."""
        return round(min(max(value, self.low), self.high) * self.per_unit)

    def value(self, steps: float) -> float:
        """See `Scale`."""
        return steps / self.per_unit


@dataclass(frozen=True)
class Power:
    """A level in decibels, summed as power: two halves at -20 and -40 dB have a mean of -23 dB, not of -30.

    A step is 1e-12 of full scale's power, so that the rounding of one value is below 0.03 dB at -100 dB and below
    0.0003 dB at -80 dB.
    """

    low: float
    high: float
    per_unit: int = 10**12

    def steps(self, value: float) -> int:
        """See `Scale`."""
        return round(math.pow(10.0, min(max(value, self.low), self.high) / 10.0) * self.per_unit)

    def value(self, steps: float) -> float:
        """See `Scale`; at least `low`."""
        return max(self.low, 10.0 * math.log10(max(steps, 1.0) / self.per_unit))


@dataclass(slots=True)
class Tally:
    """What was summed: the weights, steps by weight, and the worst single value in steps."""

    weight: int = 0
    total: int = 0
    worst: int | None = None

    def add(self, steps: int, weight: int, worse: Callable[[int, int], int]) -> None:
        """Take in one value; `worse` is min or max."""
        self.weight += weight
        self.total += steps * weight
        self.worst = steps if self.worst is None else worse(self.worst, steps)

    def merged(self, other: Tally, worse: Callable[[int, int], int]) -> Tally:
        """Both as one."""
        known = [worst for worst in (self.worst, other.worst) if worst is not None]
        worst = worse(*known) if len(known) > 1 else next(iter(known), None)
        return Tally(self.weight + other.weight, self.total + other.total, worst)

    def mean(self, scale: Scale) -> float | None:
        """The weighted mean; None without values."""
        return scale.value(self.total / self.weight) if self.weight else None

    def extreme(self, scale: Scale) -> float | None:
        """The worst value; None without values."""
        return None if self.worst is None else scale.value(self.worst)


def pack(tally: Tally) -> list[int | bytes | None]:
    """A tally as MessagePack fields."""
    return [pack_int(tally.weight), pack_int(tally.total), tally.worst]


def unpack(fields: Sequence[int | bytes | None]) -> Tally:
    """What `pack` was given; a field that is not there yet reads as empty."""
    known: list[int | bytes | None] = [*fields, None, None, None]
    weight, total, worst = known[:3]
    return Tally(unpack_int(weight), unpack_int(total), None if worst is None else unpack_int(worst))


def pack_int(number: int) -> int | bytes:
    """A whole number of any size as MessagePack can carry it."""
    if _LEAST <= number <= _MOST:
        return number
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def unpack_int(packed: int | bytes | None) -> int:
    """What `pack_int` was given; 0 for nothing."""
    if isinstance(packed, bytes):
        return int.from_bytes(packed, "big", signed=True)
    return packed or 0
