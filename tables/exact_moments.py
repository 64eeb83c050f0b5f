"""Sums of unit totals and of their products as whole numbers: exact under any order, any merging and any removal. Pure.

What an experiment needs of each unit is a vector of four totals: numerator and denominator after its first exposure
(post), and the same before it (pre). Means, variances and covariances of that vector follow from n, four sums and ten
products. As floats such sums lose everything to cancellation ({4, 7, 13, 16} + 1e9 gives a variance of -171 instead of
30), and a unit that is taken out again leaves a rest behind. Whole numbers have neither fault (docs/decisions/0011).

A total is a whole number of steps of 2**-80. Every finite float of at least 4e-9 is one exactly; a smaller one is
rounded by at most 4e-25. A value of at most 1e12 takes 120 bits, and the sum of a billion of its squares 270.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tables.tallies import pack_int, unpack_int

STEP_BITS = 80
# Places in a vector of totals.
NUM_POST, DEN_POST, NUM_PRE, DEN_PRE = range(4)
SIZE = 4

# Totals of one unit, in steps: (num_post, den_post, num_pre, den_pre).
Totals = tuple[int, int, int, int]
NOTHING: Totals = (0, 0, 0, 0)

# Rows of the products' upper triangle: (0, 0), (0, 1), ... (3, 3).
_PAIRS = tuple((i, j) for i in range(SIZE) for j in range(i, SIZE))
_PLACE = {pair: place for place, pair in enumerate(_PAIRS)} | {(j, i): place for place, (i, j) in enumerate(_PAIRS)}


def steps(value: float) -> int:
    """A finite value as the nearest whole number of steps."""
    return round(math.ldexp(value, STEP_BITS))


@dataclass(slots=True)
class ExactMoments:
    """n units, the sums of their totals, and the sums of the products of their totals (upper triangle, by rows)."""

    n: int = 0
    sums: list[int] = field(default_factory=lambda: [0] * SIZE)
    products: list[int] = field(default_factory=lambda: [0] * len(_PAIRS))

    def replace(self, old: Totals | None, new: Totals | None) -> None:
        """Put a unit's new totals in the place of its old ones; None is a unit that is not counted."""
        self.n += (new is not None) - (old is not None)
        old, new = old or NOTHING, new or NOTHING
        for i in range(SIZE):
            self.sums[i] += new[i] - old[i]
        for place, (i, j) in enumerate(_PAIRS):
            # Most totals are 0: an arm without denominators or without a pre-period.
            if new[i] or old[i]:
                self.products[place] += new[i] * new[j] - old[i] * old[j]

    def merged(self, other: ExactMoments) -> ExactMoments:
        """Both sets of units as one."""
        return ExactMoments(
            self.n + other.n,
            [a + b for a, b in zip(self.sums, other.sums, strict=True)],
            [a + b for a, b in zip(self.products, other.products, strict=True)],
        )

    def mean(self, i: int, n: int | None = None) -> float:
        """The mean of total i, correctly rounded; 0 without units.

        `n` >= self.n counts further units whose totals are all 0.
        """
        count = self.n if n is None else n
        return self.sums[i] / (count << STEP_BITS) if count else 0.0

    def comoment(self, i: int, j: int, n: int | None = None) -> float:
        """The sum over units of (x_i - mean_i)(x_j - mean_j), correctly rounded: the numerator is exact."""
        count = self.n if n is None else n
        if not count:
            return 0.0
        exact = count * self.products[_PLACE[i, j]] - self.sums[i] * self.sums[j]
        return exact / (count << (2 * STEP_BITS))

    def pack(self) -> list[int | bytes]:
        """The numbers as MessagePack carries them: n, sums, products."""
        return [self.n, *map(pack_int, self.sums), *map(pack_int, self.products)]


def unpack(packed: Sequence[int | bytes]) -> ExactMoments:
    """What `pack` made; nothing packed is no units."""
    if not packed:
        return ExactMoments()
    n, *numbers = map(unpack_int, packed)
    return ExactMoments(n, numbers[:SIZE], numbers[SIZE : SIZE + len(_PAIRS)])
