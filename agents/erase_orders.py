"""The owner's side of `headrace tenants erase`: orders in, reports out, for one partition of all tables.

Where it stands: `agents.backfill`, which reads the topic, hands orders over and sends the reports;
`agents.erasable_work` carries them out. `tables.erase_orders` draws who says what. Counting reads COUNT_ROWS rows each
time, so that live work goes on.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from agents.erasable_work import ErasableWork, Order
from tables import erase_orders as wire
from tables import erasure_marks
from tables.erase_orders import EraseOrder, EraseReport
from tables.store import FIRST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runtime.clock import Clock
    from tables.incarnations import Incarnation
    from tables.store import RowStore

COUNT_ROWS = 5_000
# Until all tables of a partition are taken up; a rebalance or a recovery is under way.
PATIENCE_S = 5.0


class Erasable(Protocol):
    """What this worker has of one table (`agents.owned_table.OwnedTable`)."""

    @property
    def source(self) -> str:
        """The topic that the table is folded from."""
        ...

    @property
    def rows(self) -> RowStore:
        """Its rows, without those that were erased."""
        ...

    def erasable(self, partition: int) -> ErasableWork | None:
        """The partition's work, while it is owned and recovered."""
        ...

    def incarnation(self, partition: int) -> tuple[Incarnation, str]:
        """Of the source, for a partition that has work."""
        ...

    def wake(self, partition: int) -> None:
        """Flush the partition soon."""
        ...


@dataclass
class _Count:
    """Rows counted so far, by table, and what is left to look at."""

    rows: dict[str, int]
    left: Iterator[tuple[str, bytes]]


@dataclass
class _Asked:
    order: EraseOrder
    since_s: float
    works: dict[str, ErasableWork] = field(default_factory=dict)
    """By table, once the order is being carried out; a table that has another one by then has another owner."""
    count: _Count | None = None
    is_repeated: bool = False
    """Asked again since the last answer: who asks wants to know that somebody is at it."""


class EraseDesk:
    """One partition's orders."""

    def __init__(self, partition: int, tables: Mapping[str, Erasable], group: str, owner: str) -> None:
        """`owner` names this worker since it has the partition: nobody else ever has that name."""
        self._partition = partition
        self._tables = tables
        self._group = group
        self._owner = owner
        self._asked: dict[tuple[str, str], _Asked] = {}

    def put(self, raw: bytes, now_s: float) -> None:
        """Take in an order; a repeated one is one. Raises ValueError for bytes that are none."""
        order = wire.decode_order(raw)
        if order.group != self._group:
            return
        place = order.job, order.owner
        if place in self._asked:
            self._asked[place].is_repeated = True
        else:
            self._asked[place] = _Asked(order, now_s)

    def is_busy(self) -> bool:
        """Whether anything is asked and not answered."""
        return bool(self._asked)

    def hides(self, table: str, tenant: str) -> bool:
        """Whether the tenant was erased here, or is about to be."""
        work = self._tables[table].erasable(self._partition)
        return work is not None and work.hides(tenant)

    def take(self, now_s: float) -> list[EraseReport]:
        """Go on with what is asked; what there is to say now."""
        reports = []
        for place, asked in list(self._asked.items()):
            report = self._gone_on(asked, now_s)
            if report is not None:
                del self._asked[place]
                reports.append(report)
            elif asked.is_repeated and asked.works:
                asked.is_repeated = False
                reports.append(self._report(asked, {}, is_under_way=True))
        return reports

    def _gone_on(self, asked: _Asked, now_s: float) -> EraseReport | None:
        works = {name: table.erasable(self._partition) for name, table in self._tables.items()}
        missing = [name for name, work in works.items() if work is None or asked.works.get(name, work) is not work]
        if missing:
            if now_s - asked.since_s < PATIENCE_S:
                return None
            return self._report(asked, {}, reason=f"does not own {', '.join(missing)} now: a rebalance is under way")
        asked.works = {name: work for name, work in works.items() if work is not None}
        if asked.order.owner == self._owner:
            return self._erased(asked)
        return self._counted(asked)

    # --- counting ----------------------------------------------------------------------------------------------------

    def _counted(self, asked: _Asked) -> EraseReport | None:
        if asked.count is None:
            asked.count = _Count(dict.fromkeys(self._tables, 0), self._keys())
        looked_at = list(islice(asked.count.left, COUNT_ROWS))
        for table, key in looked_at:
            asked.count.rows[table] += erasure_marks.tenant_of(key) == asked.order.tenant
        return None if len(looked_at) == COUNT_ROWS else self._report(asked, asked.count.rows)

    def _keys(self) -> Iterator[tuple[str, bytes]]:
        for name, table in self._tables.items():
            for key, _raw in table.rows.scan(self._partition, FIRST_KEY, None):
                yield name, key

    # --- erasing -----------------------------------------------------------------------------------------------------

    def _erased(self, asked: _Asked) -> EraseReport | None:
        order, rows = asked.order, dict[str, int]()
        for name, work in asked.works.items():
            table = self._tables[name]
            done = work.erased(order.tenant, order.job)
            if done is not None:
                rows[name] = done
                continue
            incarnation, topic_id = table.incarnation(self._partition)
            known = order.ends.get(table.source)
            if known is None or known[0] != topic_id:
                return self._report(asked, {}, reason=f"{table.source} was made anew meanwhile, or is not known to you")
            work.erase(Order(order.tenant, order.job, incarnation.base + known[1] - 1))
            table.wake(self._partition)
        return self._report(asked, rows, is_done=True) if len(rows) == len(self._tables) else None

    def _report(
        self,
        asked: _Asked,
        rows: dict[str, int],
        *,
        is_done: bool = False,
        reason: str = "",
        is_under_way: bool = False,
    ) -> EraseReport:
        job, number, owner = asked.order.job, self._partition, self._owner
        return EraseReport(wire.FORMAT, job, number, owner, is_done, dict(rows), reason, is_under_way)


def named(clock: Clock) -> str:
    """A name for whoever takes up a partition now, which nobody had before."""
    return f"{socket.gethostname()}/{os.getpid()}/{clock.wall_s():.6f}"
