"""Which records of a partition are finished, when they do not finish in order. Pure.

Where it stands: `agents.effect_work` begins each record that it reads and finishes it when nothing more is to be done
with it; the log is acknowledged up to `finished_to`. What is finished beyond that is kept as ranges, in a row of the
agent's table, so that a restart, which reads on from what was acknowledged, does not do it again:

    key    ["meta", 0, "", "finished"]
    value  [format, version, 0, finished_to, [first, end, first, end, ...]]    ranges [first, end) above finished_to

Positions are those of `tables.incarnations`.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from contracts.names import TenantId
from tables.formats import check_format
from tables.incarnations import META_KIND
from tables.rows import WindowKey, encode_key

if TYPE_CHECKING:
    from tables.store import Change

KEY = encode_key(META_KIND, WindowKey(TenantId(""), ("finished",), 0))
FORMAT = 1


class _Row(msgspec.Struct, array_like=True, frozen=True):
    format: int
    version: int
    announced: int
    finished_to: int
    ranges: list[int]


_decode = msgspec.msgpack.Decoder(_Row).decode


class Finished:
    """The records of one partition; each is begun in the order of the log."""

    def __init__(self, finished_to: int = -1, beyond: Iterable[int] = (), version: int = 0) -> None:
        self._beyond = set(beyond)
        self._begun_to = finished_to
        self._open: set[int] = set()
        self._in_order: list[int] = []
        self._version = version
        self._written_as = (finished_to, sorted(self._beyond))

    @classmethod
    def of_row(cls, raw: bytes | None) -> Finished:
        """What was written down; None: nothing was.

        Raises:
            ValueError: the row's format has another meaning here.
        """
        if raw is None:
            return cls()
        row = _decode(raw)
        check_format("a row of finished records", row.format, FORMAT)
        bounds = zip(row.ranges[::2], row.ranges[1::2], strict=True)
        return cls(row.finished_to, (at for first, end in bounds for at in range(first, end)), row.version)

    @property
    def open_count(self) -> int:
        """Records that are begun and not finished."""
        return len(self._open)

    @property
    def finished_to(self) -> int:
        """Everything up to this position is finished."""
        while self._in_order and self._in_order[0] not in self._open:
            heappop(self._in_order)
        return self._in_order[0] - 1 if self._in_order else self._begun_to

    def begin(self, position: int) -> bool:
        """Whether the record is to be done: it was neither begun nor finished before."""
        if position <= self._begun_to:
            return False
        self._begun_to = position
        if position in self._beyond:
            return False
        self._open.add(position)
        heappush(self._in_order, position)
        return True

    def pass_to(self, position: int) -> None:
        """Records up to this position that were not begun never will be."""
        self._begun_to = max(self._begun_to, position)

    def finish(self, position: int) -> None:
        """Nothing more is to be done with a record that was begun."""
        self._open.remove(position)
        self._beyond.add(position)

    @property
    def is_changed(self) -> bool:
        """Whether the next `take_change` gives a row."""
        return self._state() != self._written_as

    def take_change(self) -> Change | None:
        """The row that says what is finished now, when that is not what the last one said."""
        state = self._state()
        if state == self._written_as:
            return None
        self._written_as = state
        finished_to = state[0]
        self._version += 1
        return KEY, msgspec.msgpack.encode((FORMAT, self._version, 0, finished_to, _ranges(state[1])))

    def _state(self) -> tuple[int, list[int]]:
        finished_to = self.finished_to
        self._beyond = {at for at in self._beyond if at > finished_to}
        return finished_to, sorted(self._beyond)


def _ranges(positions: list[int]) -> list[int]:
    bounds: list[int] = []
    for at in positions:
        if bounds and bounds[-1] == at:
            bounds[-1] = at + 1
        else:
            bounds += [at, at + 1]
    return bounds
