"""The port between a table and the engine: how records become contributions, and contributions a row's state. Pure.

A table of windows is a `TableKind`; the engine (`tables.window_partition`, `agents.window_work`) does the rest:
batches, positions, watermarks, lateness, expiry, emission, queries and replay are the same for all tables.

To add a table, write its state and its Fold in a file of its own, declare a TableKind, and add it to
`tables.catalogue`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from contracts.errors import ContractError
from contracts.names import Mode, TenantId, Topic
from tables.columns import Books, Contributions, Name, NameBook, NumberColumn, Objects
from tables.rows import Subject

S = TypeVar("S")
V = TypeVar("V")

# What is printed of a row: JSON values, flat but for counts by name.
Summary = dict[str, "float | int | str | bool | dict[str, int] | None"]


class Fold(Protocol[S]):
    """How one row's state is made. Integer state must be bit-equal under any order and batching, floats to 1e-12."""

    format: int

    def empty(self) -> S:
        """The state of a window without events."""
        ...

    def add_each(self, states: Sequence[S], bounds: Sequence[int], values: Any) -> None:  # noqa: ANN401 - its Values
        """Take in values[bounds[i] : bounds[i + 1]] into each states[i], each exactly once; a state may stand twice.

        The caller has dropped the repeats.
        """
        ...

    def merge(self, left: S, right: S) -> S:
        """Two windows (or two partitions' shares of one) as one; neither argument is changed."""
        ...

    def pack(self, state: S) -> Sequence[object]:
        """The state as MessagePack fields, in a fixed order; later formats append."""
        ...

    def unpack(self, fields: Sequence[Any]) -> S:
        """The state of `pack`ed fields. There may be fewer (an older release wrote them) or more (a newer one)."""
        ...

    def summarise(self, state: S) -> Summary:
        """What people read off the state: exactly the names of the kind's columns."""
        ...


def _itself(name: Name) -> Name:
    return name


_books: Books[Name] = Books(_itself)
# Fewer samples than this are quicker looked at one by one.
_FEW = 16


class OneByOne(Generic[S, V]):
    """For folds whose contributions are objects: groups are added one after the other."""

    def add_each(self, states: Sequence[S], bounds: Sequence[int], values: Sequence[V]) -> None:
        """Take in values[bounds[i] : bounds[i + 1]] into each states[i]."""
        for state, first, end in zip(states, bounds, bounds[1:], strict=False):
            self.add(state, values[first:end])

    def add(self, state: S, values: Sequence[V]) -> None:
        """Take in contributions, each exactly once; the caller has dropped the repeats."""
        raise NotImplementedError


class Samples(NamedTuple):
    """Decoded records as columns of equal length: entry i is a contribution to one row.

    A record may make several contributions (one row of its session, one of its tenant) or none; they stand in the order
    of the records. `indexes[i]` is the record's place among the values that were decoded, in ascending order. `codes`
    are of names of `book`; a tenant of None there is to be taken from the record's headers. Times are in milliseconds
    since the epoch, `values` a column (`tables.columns.Values`) of what the table's fold takes. `bad` has the places of
    values that break their contract.
    """

    indexes: Sequence[int]
    book: NameBook[Any]
    codes: NumberColumn
    at_ms: NumberColumn
    values: Any
    bad: Sequence[tuple[int, ContractError]] = ()

    def __bool__(self) -> bool:
        return len(self.at_ms) > 0

    @property
    def names(self) -> list[Name]:
        """Tenant and subject of each."""
        return list(map(self.book.names.__getitem__, self.codes.tolist()))


def named_samples(
    indexes: Sequence[int],
    names: Sequence[Name],
    at_ms: Sequence[int],
    values: Iterable[Any],
    bad: Sequence[tuple[int, ContractError]] = (),
) -> Samples:
    """Samples of columns of names, times and objects."""
    book = _books.current()
    return Samples(indexes, book, book.codes(names), np.array(at_ms, np.int64), Objects(values), bad)


def contributions(samples: Samples, size_ms: int) -> Contributions:
    """The samples with the windows of `size_ms` that they fall in."""
    return Contributions(samples.book, samples.codes, samples.at_ms - samples.at_ms % size_ms, samples.values)


def newest_by_tenant(samples: Samples) -> dict[TenantId, int]:
    """The newest event time of each tenant, in ms; every tenant is given, and no time is before 1970."""
    codes, times_ms = samples.codes, samples.at_ms
    if len(codes) >= _FEW:
        codes, inverse = np.unique(codes, return_inverse=True)
        times_ms = np.full(len(codes), np.iinfo(np.int64).min)
        np.maximum.at(times_ms, inverse, samples.at_ms)
    names = samples.book.names
    found: dict[Any, int] = {}
    for code, at_ms in zip(codes.tolist(), times_ms.tolist(), strict=True):
        tenant = names[code][0]
        if at_ms > found.get(tenant, -1):
            found[tenant] = at_ms
    return found


def with_tenants(samples: Samples, tenant_of: Callable[[int], TenantId | None]) -> Samples:
    """The samples with tenants where only the records' headers tell them; those without any are left out.

    `tenant_of` is given the index of a record whose value names no tenant.
    """
    if not samples.book.has_nameless(samples.codes):
        return samples
    kept: list[int] = []
    names: list[Name] = []
    for place, (index, (tenant, subject)) in enumerate(zip(samples.indexes, samples.names, strict=True)):
        found = tenant_of(index) if tenant is None else tenant
        if found is not None:
            kept.append(place)
            names.append((found, subject))
    book = _books.current()
    return chosen(samples, kept)._replace(book=book, codes=book.codes(names))


def chosen(samples: Samples, places: Sequence[int] | NumberColumn) -> Samples:
    """Some of the samples; `bad` was dealt with."""
    at = np.asarray(places, np.int64)
    return Samples(
        [samples.indexes[place] for place in at.tolist()],
        samples.book,
        samples.codes[at],
        samples.at_ms[at],
        samples.values.take(at),
    )


@dataclass(frozen=True)
class Column:
    """One value of a summary: its name (with unit), what it is, and whether it is drawn as a chart."""

    name: str
    describe: str
    chart: str = ""
    """Columns of the same chart title are drawn as lines of one chart; "" is not drawn."""


@dataclass(frozen=True)
class TableKind(Generic[S]):
    """What a table is."""

    name: str
    """As in addresses and commands: `tool_latency`."""
    kind: str
    """The kind of its window rows, in keys."""
    describe: str
    topic: Topic
    """Its source."""
    parts: tuple[str, ...]
    """Names of the subject's parts: ("tool", "version")."""
    size_ms: int
    """Length of the base windows; 0: one row for all time."""
    fold: Fold[S]
    columns: tuple[Column, ...]
    samples: Callable[[Sequence[bytes], Mode], Samples]
    """Decodes values of the topic; must give the same for a value alone as in any company."""
    channel: Callable[[Subject], str]
    """The channel that a token must cover to see rows of a subject."""
    merged_when_read: bool = False
    """Several partitions may hold shares of the same row (the topic's key is finer than the subject)."""
