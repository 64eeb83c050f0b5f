"""Columns of contributions: what each is about, as a number, and groups of them by row. Pure.

A row's name (tenant, subject) is looked up once for each contribution and is a small whole number from there on, its
code: so that thousands of contributions are put into groups by sorting numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import sub
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from contracts.names import TenantId
from tables.rows import Subject, WindowKey

V = TypeVar("V")
R = TypeVar("R", bound=Hashable)

NumberColumn = NDArray[np.int64]
# What a row is about; the tenant is None where only the record's headers tell it.
Name = tuple[TenantId | None, Subject]
# A book with so many entries is full, which bounds its memory; then another one is begun.
MOST_NAMES = 20_000


class NameBook(dict[R, int], Generic[R]):
    """Codes of names, by something that is quick to get at and says the name.

    Args:
        name_of: the name that something says; None when it says none, which is remembered as NO_NAME.
    """

    NO_NAME = -1

    def __init__(self, name_of: Callable[[R], Name | None]) -> None:
        super().__init__()
        self._name_of = name_of
        self.names: list[Name] = []
        """By code."""
        self._nameless: set[int] = set()

    def __missing__(self, said: R) -> int:
        name = self._name_of(said)
        code = self.NO_NAME
        if name is not None:
            code = len(self.names)
            self.names.append(name)
            if name[0] is None:
                self._nameless.add(code)
        self[said] = code
        return code

    @property
    def is_full(self) -> bool:
        """Whether another book is to be begun."""
        return len(self) > MOST_NAMES

    def codes(self, said: Sequence[R]) -> NumberColumn:
        """The code of each, shape (n,)."""
        return np.fromiter(map(self.__getitem__, said), np.int64, len(said))

    def has_nameless(self, codes: NumberColumn) -> bool:
        """Whether one of them has no tenant."""
        return bool(self._nameless) and not self._nameless.isdisjoint(codes.tolist())


class Books(Generic[R]):
    """The book that is begun, and the next one when it is full."""

    def __init__(self, name_of: Callable[[R], Name | None]) -> None:
        self._name_of = name_of
        self._book = NameBook(name_of)

    def current(self) -> NameBook[R]:
        """A book with room."""
        if self._book.is_full:
            self._book = NameBook(self._name_of)
        return self._book


class Values(Protocol):
    """A column of contributions."""

    def __len__(self) -> int: ...

    def take(self, places: NumberColumn) -> Self:
        """Those at these places, in their order."""
        ...

    def followed_by(self, others: Sequence[Self]) -> Self:
        """This column and then the others; their codes are of one book."""
        ...


class Objects(list[V]):
    """A column of objects."""

    def take(self, places: NumberColumn) -> Objects[V]:
        """Those at these places, in their order."""
        return Objects(map(self.__getitem__, places.tolist()))

    def followed_by(self, others: Sequence[Objects[V]]) -> Objects[V]:
        """This column and then the others."""
        return Objects([*self, *(value for other in others for value in other)])


class Groups(NamedTuple):
    """Contributions in order of their rows, and in each row's in the order in which they came.

    The values of row keys[i] are values[bounds[i] : bounds[i + 1]]. A row may stand twice, when two codes say its name.
    """

    keys: list[WindowKey]
    bounds: list[int]
    values: Any


class Contributions(NamedTuple):
    """Columns of equal length: `codes` of names in `book`, the starts of windows in ms, and values."""

    book: NameBook[Any]
    codes: NumberColumn
    starts_ms: NumberColumn
    values: Values

    def followed_by(self, others: Sequence[Contributions]) -> Contributions:
        """These and then the others, which are of the same book."""
        parts = (self, *others)
        return Contributions(
            self.book,
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.starts_ms for part in parts]),
            self.values.followed_by([other.values for other in others]),
        )

    def sizes(self) -> list[tuple[WindowKey, int]]:
        """How many contributions each row gets; a row may stand twice."""
        keys, bounds = self._rows(_order(self.codes, self.starts_ms))
        return list(zip(keys, map(sub, bounds[1:], bounds), strict=True))

    def grouped(self) -> Groups:
        """Put together by row; there is at least one."""
        order = _order(self.codes, self.starts_ms)
        return Groups(*self._rows(order), self.values.take(order))

    def _rows(self, order: NumberColumn) -> tuple[list[WindowKey], list[int]]:
        codes, starts_ms = self.codes[order], self.starts_ms[order]
        changes = np.flatnonzero((codes[1:] != codes[:-1]) | (starts_ms[1:] != starts_ms[:-1])) + 1
        first = np.concatenate(([0], changes))
        named: list[Any] = list(map(self.book.names.__getitem__, codes[first].tolist()))  # every tenant is given
        begun_ms = starts_ms[first].tolist()
        keys = [WindowKey(tenant, subject, at_ms) for (tenant, subject), at_ms in zip(named, begun_ms, strict=True)]
        return keys, [*first.tolist(), len(codes)]


def _order(codes: NumberColumn, starts_ms: NumberColumn) -> NumberColumn:
    """The places in order of code, start and place."""
    count = len(codes)
    oldest_ms = int(starts_ms.min())
    width = int(starts_ms.max()) - oldest_ms + 1
    if (int(codes.max()) + 1) * width * count >= 1 << 63:
        return np.lexsort((starts_ms, codes))
    # Sorting one number that says all three is ten times faster.
    return np.sort((codes * width + (starts_ms - oldest_ms)) * count + np.arange(count)) % count
