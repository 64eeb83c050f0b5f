"""The port between a table and the engine: how records become contributions, and contributions a row's state. Pure.

A table of windows is a `TableKind`; the engine (`tables.window_partition`, `agents.window_work`) does the rest:
batches, positions, watermarks, lateness, expiry, emission, queries and replay are the same for all tables.

To add a table, write its state and its Fold in a file of its own, declare a TableKind, and add it to
`tables.catalogue`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from contracts.errors import ContractError
from contracts.names import Mode, TenantId, Topic
from tables.rows import Subject

S = TypeVar("S")
V = TypeVar("V")
V_contra = TypeVar("V_contra", contravariant=True)

# What is printed of a row: JSON values, flat but for counts by name.
Summary = dict[str, "float | int | str | bool | dict[str, int] | None"]


class Fold(Protocol[S, V_contra]):
    """How one row's state is made. Integer state must be bit-equal under any order and batching, floats to 1e-12."""

    format: int

    def empty(self) -> S:
        """The state of a window without events."""
        ...

    def add(self, state: S, values: Sequence[V_contra]) -> None:
        """Take in contributions, each exactly once; the caller has dropped the repeats."""
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


class Samples(NamedTuple):
    """Decoded records as columns of equal length: entry i is a contribution to one row.

    A record may make several contributions (one row of its session, one of its tenant) or none; they stand in the order
    of the records. `indexes[i]` is the record's place among the values that were decoded, in ascending order. A tenant
    of None is to be taken from the record's headers. `bad` has the places of values that break their contract.
    """

    indexes: Sequence[int]
    tenants: Sequence[TenantId | None]
    subjects: Sequence[Subject]
    at_ms: Sequence[int]
    values: Sequence[Any]
    bad: Sequence[tuple[int, ContractError]] = ()


def chosen(samples: Samples, places: Sequence[int]) -> Samples:
    """Some of the samples; `bad` was dealt with."""
    return Samples(
        [samples.indexes[p] for p in places],
        [samples.tenants[p] for p in places],
        [samples.subjects[p] for p in places],
        [samples.at_ms[p] for p in places],
        [samples.values[p] for p in places],
    )


@dataclass(frozen=True)
class Column:
    """One value of a summary: its name (with unit), what it is, and whether it is drawn as a chart."""

    name: str
    describe: str
    chart: str = ""
    """Columns of the same chart title are drawn as lines of one chart; "" is not drawn."""


@dataclass(frozen=True)
class TableKind(Generic[S, V]):
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
    fold: Fold[S, V]
    columns: tuple[Column, ...]
    samples: Callable[[Sequence[bytes], Mode], Samples]
    """Decodes values of the topic; must give the same for a value alone as in any company."""
    channel: Callable[[Subject], str]
    """The channel that a token must cover to see rows of a subject."""
    merged_when_read: bool = False
    """Several partitions may hold shares of the same row (the topic's key is finer than the subject)."""
