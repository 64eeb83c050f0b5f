"""A partition's work from which a tenant can be erased for good: around the work of each agent that has a table.

Where it stands: `agents.host` puts it around what an agent opens; `agents.erase_orders` gives it orders. One erasure of
a tenant from one partition of a table, the protocol that keeps it erased (docs/decisions/0023):

1. drain   take in nothing more (chunks wait, unread), start no more calls, and flush until the rows in the store are
           all that the work knows.
2. mark    note in the table's store that the tenant's rows up to a position are erased, and open the work anew from
           the store, which shows none of them. The position is at or above all that was ever folded here, and above the
           log's end as it was when this owner had the partition already: a former owner that was frozen folded nothing
           beyond that.
3. forget  the mark's row goes with the first flush after that. From here on it holds whatever is killed: records of
           the tenant up to the mark, and dead letters of such, are left out when they are delivered (again); rows up to
           the mark are not shown, whoever wrote them and however late.
4. sweep   delete the tenant's rows up to the mark, SWEEP_ROWS looked at with each flush, in the changelog and then in
           the store. It only frees space: nothing shows them any more.
5. done    the mark's row says so, and how many they were.

    IDLE -- erase --> DRAINING (1) -- nothing left to flush --> SWEEPING (2, 3, 4) -- all looked at --> ENDING (5)
     ^                                                             ^                                       |
     |                                                             +-- a mark that is not done, recovered  |
     +------------------------------------------- that flush is durable -----------------------------------+

A partition that is taken away before 3 is as if nothing had been asked: who asked gets no answer, and asks again. One
that is taken away later is swept by its next owner. One tenant at a time; others wait their turn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from contracts import requeue
from contracts.errors import ContractError
from contracts.said import owner_of
from runtime.logs import get_logger
from tables import erasure_marks
from tables.erasure_marks import Mark
from tables.store import FIRST_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agents.effects import Effects, PartitionWork
    from runtime.clock import Clock
    from streams.record_chunk import RecordChunk, SourceRecord
    from tables.erasable_store import ErasableStore
    from tables.store import Change

log = get_logger(__name__)

# Some 20 ms of reading.
SWEEP_ROWS = 5_000


class _Stage(Enum):
    IDLE = "idle"
    DRAINING = "draining"
    SWEEPING = "sweeping"
    ENDING = "ending"


class Order(NamedTuple):
    """Erase this tenant; `job` names the erasure. `read_up_to`: a position at or above the log's last record."""

    tenant: str
    job: str
    read_up_to: int


@dataclass(frozen=True)
class Place:
    """A partition of a table, and how its work is opened.

    `base`: see `tables.incarnations`. `cluster` names the cluster that is read, which letters name as their origin's.
    """

    table: str
    partition: int
    rows: ErasableStore
    base: int
    cluster: Callable[[], str]
    open_work: Callable[[int], PartitionWork]
    clock: Clock


class ErasableWork:
    """One partition; a PartitionWork."""

    def __init__(self, place: Place) -> None:
        """Opens the work itself. The partition's rows are recovered."""
        self._place = place
        self.inner = place.open_work(place.partition)
        """What the agent opened; another one after an erasure."""
        self._orders: deque[Order] = deque()
        self._stage = _Stage.IDLE
        self._order: Order | None = None
        self._sweep: Iterator[tuple[bytes, bytes]] = iter(())
        self._deleted = 0
        self._to_write: list[Change] = []
        self._folded_to = -1
        self._look()

    # --- orders ------------------------------------------------------------------------------------------------------

    def erase(self, order: Order) -> None:
        """Erase a tenant, soon; no more than a note when that erasure is under way or done."""
        mark = self._marks().get(order.tenant)
        if order not in self._orders and order != self._order and (mark is None or mark.job != order.job):
            self._orders.append(order)
            self._next()

    def erased(self, tenant: str, job: str) -> int | None:
        """How many rows that erasure has deleted here, once all of it is durable; else None."""
        raw = self._place.rows.inner.get(self._place.partition, erasure_marks.key_of(tenant))
        if raw is None:
            return None
        mark = erasure_marks.decode(raw)
        return mark.rows if mark.job == job and mark.state == erasure_marks.DONE else None

    def hides(self, tenant: str) -> bool:
        """Whether the tenant was erased here, so that what its older records say is not to be counted again."""
        return tenant in self._marks() or any(tenant == each.tenant for each in self._orders)

    def _next(self) -> None:
        if self._stage is _Stage.IDLE and self._orders:
            self._stage, self._order = _Stage.DRAINING, self._orders.popleft()
            self.inner.hand_over()

    # --- records in --------------------------------------------------------------------------------------------------

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """As the work does, without records of tenants that were erased."""
        place, last = self._place, chunk.offsets[-1]
        left: RecordChunk | None = chunk
        self._folded_to = max(self._folded_to, place.base + last)
        if (marks := self._marks()) and place.base + chunk.offsets[0] <= max(mark.position for mark in marks.values()):
            left = chunk.only(lambda record: not self._is_erased(record, place.base + record.offset))
        if left is not None:
            self.inner.fold(left, now_s)
        if left is not chunk:
            self.passed(last)

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        """The same of dead letters, by the place where each first stood."""
        left: RecordChunk | None = chunk
        if self._marks():
            left = chunk.only(lambda record: not self._is_erased(record, self._first_stood(record)))
        if left is not None:
            self.inner.take_back(left, now_s)

    def passed(self, last_offset: int) -> None:
        """As the work does."""
        self.inner.passed(last_offset)

    def _is_erased(self, record: SourceRecord, position: int) -> bool:
        mark = self._marks().get(owner_of(record.value, record.headers))
        return mark is not None and position <= mark.position

    def _first_stood(self, record: SourceRecord) -> int:
        """Its position; -1 in a cluster that is gone, below every mark."""
        try:
            back = requeue.from_headers(record.headers)
        except ContractError:
            return -1
        if back is None or back.origin.incarnation not in ("", self._place.cluster()):
            return -1
        return self._place.base + back.origin.offset

    # --- effects out -------------------------------------------------------------------------------------------------

    def take(self, now_s: float) -> Effects:
        """What the work makes, and what an erasure adds to it."""
        was_drained = self.inner.is_drained(0)  # what is taken is under way until it is settled
        effects = self.inner.take(now_s)
        if self._stage is _Stage.DRAINING and was_drained and _is_empty(effects):
            self._mark()
            effects = self.inner.take(now_s)
        elif self._stage is _Stage.SWEEPING:
            self._swept()
        # In front: a row that is deleted may be written anew with the same flush.
        own, self._to_write = tuple(self._to_write), []
        return replace(effects, rows=(*own, *effects.rows)) if own else effects

    def take_rows(self, now_s: float) -> Sequence[Change]:
        """As the work does."""
        return self.inner.take_rows(now_s)

    def settled(self, effects: Effects) -> None:
        """As the work does; the last flush of an erasure ends it."""
        self.inner.settled(effects)
        if self._stage is _Stage.ENDING:
            self._stage, self._order = _Stage.IDLE, None
            self._look()
            self._next()

    def is_full(self) -> bool:
        """Also while an erasure waits for the work to drain."""
        return self._stage is _Stage.DRAINING or self.inner.is_full()

    def is_busy(self) -> bool:
        """As the work does."""
        return self.inner.is_busy()

    def hand_over(self) -> None:
        """As the work does."""
        self.inner.hand_over()

    def finish(self) -> None:
        """As the work does."""
        self.inner.finish()

    def is_drained(self, left_count: int) -> bool:
        """As the work does: an erasure goes on elsewhere."""
        return self.inner.is_drained(left_count)

    async def stop(self) -> None:
        """As the work does; one that was drained and replaced has nothing under way."""
        await self.inner.stop()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _marks(self) -> dict[str, Mark]:
        return self._place.rows.marks(self._place.partition)

    def _look(self) -> None:
        """Go on with an erasure that an earlier owner began."""
        for tenant, mark in self._marks().items():
            if mark.state == erasure_marks.SWEEPING:
                self._order = Order(tenant, mark.job, mark.position)
                self._begin_sweep(mark.rows)
                return

    def _mark(self) -> None:
        """Steps 2 and 3."""
        order, place = self._order, self._place
        assert order is not None  # noqa: S101 - the stage says so
        position = max(order.read_up_to, self._folded_to, *(mark.position for mark in self._marks().values()), -1)
        self._put(Mark(erasure_marks.FORMAT, position, 0, order.job, erasure_marks.SWEEPING, 0, self._now_ms()))
        self.inner = place.open_work(place.partition)
        self._begin_sweep(0)
        log.info("a tenant is erased", table=place.table, partition=place.partition, job=order.job, position=position)

    def _begin_sweep(self, deleted: int) -> None:
        self._stage, self._deleted = _Stage.SWEEPING, deleted
        self._sweep = self._place.rows.inner.scan(self._place.partition, FIRST_KEY, None)

    def _swept(self) -> None:
        """Step 4, and 5 behind the last rows."""
        order = self._order
        assert order is not None  # noqa: S101 - the stage says so
        marks, looked_at = self._marks(), list(islice(self._sweep, SWEEP_ROWS))
        mine, rows, partition = {order.tenant: marks[order.tenant]}, self._place.rows.inner, self._place.partition
        found = [key for key, raw in looked_at if erasure_marks.is_erased(mine, key, raw)]
        # A scan may give a row as it was earlier: what has been written since is not to be deleted.
        still = zip(found, rows.get_many(partition, found), strict=True)
        gone = [key for key, raw in still if raw is not None and erasure_marks.is_erased(mine, key, raw)]
        self._deleted += len(gone)
        self._to_write += ((key, None) for key in gone)
        if len(looked_at) < SWEEP_ROWS:
            self._put(
                msgspec.structs.replace(marks[order.tenant], state=erasure_marks.DONE, rows=self._deleted),
            )
            self._stage = _Stage.ENDING
        elif gone:
            self._put(msgspec.structs.replace(marks[order.tenant], rows=self._deleted))

    def _put(self, mark: Mark) -> None:
        assert self._order is not None  # noqa: S101 - a mark is an order's
        tenant = self._order.tenant
        self._place.rows.mark(self._place.partition, tenant, mark)
        self._to_write.append((erasure_marks.key_of(tenant), erasure_marks.encode(mark)))

    def _now_ms(self) -> int:
        return int(1000 * self._place.clock.wall_s())


def _is_empty(effects: Effects) -> bool:
    """Whether the store has all that the work knows: running values, which the next ones replace, do not count."""
    return not replace(effects, latest=()) and effects.back_from is None
