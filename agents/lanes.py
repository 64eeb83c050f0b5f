"""Which records of an effect agent may run now: in order within a lane, in turns between tenants. Pure.

Where it stands: `agents.effect_work` puts records in, starts what `start` gives, and says what became of it.

A lane holds the records of one aggregate of one tenant by their places in the log; at most one of them runs. (With
order "none" each record has a lane of its own.) One lane:

             +---------------- done, dead: the next one is the head ---------------+
             v                                                                     |
    (add) READY -- start --> RUNNING -- retry later --> WAITING -- due --> READY   |
             ^                  |                                                  |
             +------------------+--------------------------------------------------+

Tenants take turns, so that one with many lanes does not keep the others waiting. One that used up its quota is left out
until it may go on. Records that cannot run for such a reason (behind a head that waits, of a tenant left out) are
*set aside*: `take_aside` gives each of them once, to be written down, so that the log behind them can be acknowledged.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from agents.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable

    from contracts.requeue import Origin
    from streams.record_chunk import SourceRecord

# Tenant and aggregate; and, where no order is kept, the place.
Lane = tuple[str, ...]


class Place(NamedTuple):
    """Where a record stands among those of its partition: its position there, then what tells logs apart."""

    position: int
    incarnation: str


@dataclass(slots=True, eq=False)
class Item:
    """One record on its way; `lane` and `place` never change."""

    lane: Lane
    place: Place
    origin: Origin
    record: SourceRecord | None
    """None: only its row has it."""
    tries: int = 0
    """Those that count."""
    first_ms: int = 0
    """When it was first tried; 0: never. Unix time, as all times here."""
    due_ms: int = 0
    letter: tuple[int, int] | None = None
    """The letter's id and hr_seq, when it was requeued."""
    stored: bool = False
    """Has a row, or is about to have one: the log is not held up by it."""

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.lane[0]


class _State(Enum):
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"


@dataclass(slots=True)
class _Held:
    """A lane's records, by place."""

    items: list[Item] = field(default_factory=list)
    state: _State | None = None


def _by_place(item: Item) -> Place:
    return item.place


class Lanes:
    """The records of one partition. All times are Unix time in ms."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Held] = {}
        self._ready: dict[str, deque[Lane]] = {}
        self._turns: deque[str] = deque()
        self._due: Deadlines[Lane] = Deadlines()
        self._left_out: Deadlines[tuple[str]] = Deadlines()
        self._out: set[str] = set()
        # Not set aside so far, by tenant; and those that have to be, now.
        self._in_memory: dict[str, dict[Item, None]] = {}
        self._aside: dict[Item, None] = {}
        self.running_count = 0
        self.waiting_count = 0
        """Records that do not run."""

    def add(self, item: Item, now_ms: int, *, aside: bool = False) -> None:
        """Take in a record; it goes before those of its lane that stand later in the log and do not run.

        `aside`: set it aside, whatever it waits for.
        """
        held = self._lanes.setdefault(item.lane, _Held())
        running = held.state is _State.RUNNING
        insort(held.items, item, lo=int(running), key=_by_place)
        self.waiting_count += 1
        if not item.stored:
            self._in_memory.setdefault(item.tenant, {})[item] = None
        if not running and held.items[0] is item:
            self._settle(item.lane, held, now_ms)
        if aside or held.state is _State.WAITING or (not running and item.tenant in self._out):
            self._put_aside(item)

    def start(self, now_ms: int, admit: Callable[[Item], int]) -> Item | None:
        """The next record to run, which counts as running from here on; None when none may.

        `admit` says for how many ms the item's tenant is to be left out; 0: the item runs, and has been charged for.
        """
        for lane in self._due.due(now_ms):
            held = self._lanes.get(lane)
            if held is not None and held.state is _State.WAITING:
                self._settle(lane, held, now_ms)
        for (tenant,) in self._left_out.due(now_ms):
            self._out.discard(tenant)
            if tenant in self._ready:
                self._turns.append(tenant)
        while self._turns:
            tenant = self._turns.popleft()
            lanes = self._ready[tenant]
            held = self._lanes[lanes[0]]
            wait_ms = admit(held.items[0])
            if wait_ms > 0:
                self._leave_out(tenant, now_ms + wait_ms)
                continue
            lanes.popleft()
            if lanes:
                self._turns.append(tenant)
            else:
                del self._ready[tenant]
            return self._started(held)
        return None

    def wait(self, item: Item, due_ms: int, now_ms: int) -> None:
        """A running record failed: it is back at its place, and runs at `due_ms`. It is to be written down."""
        held = self._stopped(item)
        self.waiting_count += 1
        item.due_ms = due_ms
        item.stored = True
        self._forget(item)
        insort(held.items, held.items.pop(0), key=_by_place)
        self._settle(item.lane, held, now_ms)

    def remove(self, item: Item, now_ms: int) -> None:
        """A running record is done, or dead."""
        held = self._stopped(item)
        held.items.pop(0)
        self._forget(item)
        self._settle(item.lane, held, now_ms)

    def take_aside(self) -> list[Item]:
        """Records that are to be written down, each once; they count as stored. None of them runs."""
        aside = [item for item in self._aside if not self.runs(item)]
        self._aside = {}
        for item in aside:
            item.stored = True
            self._forget(item)
        return aside

    def put_all_aside(self) -> None:
        """Set aside all that is in memory alone."""
        for items in self._in_memory.values():
            for item in items:
                self._put_aside(item)

    def runs(self, item: Item) -> bool:
        """Whether the record runs now."""
        held = self._lanes.get(item.lane)
        return held is not None and held.state is _State.RUNNING and held.items[0] is item

    # --- inside ------------------------------------------------------------------------------------------------------

    def _settle(self, lane: Lane, held: _Held, now_ms: int) -> None:
        """Put a lane where its head says it belongs."""
        if not held.items:
            self._unready(lane, held)
            del self._lanes[lane]
            return
        if held.items[0].due_ms > now_ms:
            self._unready(lane, held)
            held.state = _State.WAITING
            self._due.set(lane, held.items[0].due_ms)
            for behind in held.items[1:]:
                self._put_aside(behind)
        elif held.state is not _State.READY:
            self._due.drop(lane)
            held.state = _State.READY
            tenant = lane[0]
            if tenant not in self._ready:
                self._ready[tenant] = deque()
                if tenant not in self._out:
                    self._turns.append(tenant)
            self._ready[tenant].append(lane)

    def _unready(self, lane: Lane, held: _Held) -> None:
        if held.state is not _State.READY:
            return
        tenant = lane[0]
        self._ready[tenant].remove(lane)
        if not self._ready[tenant]:
            del self._ready[tenant]
            if tenant in self._turns:
                self._turns.remove(tenant)

    def _started(self, held: _Held) -> Item:
        held.state = _State.RUNNING
        self.running_count += 1
        self.waiting_count -= 1
        item = held.items[0]
        self._aside.pop(item, None)
        return item

    def _stopped(self, item: Item) -> _Held:
        held = self._lanes[item.lane]
        if held.state is not _State.RUNNING or held.items[0] is not item:
            msg = f"{item.lane} {item.place} does not run"
            raise ValueError(msg)
        held.state = None
        self.running_count -= 1
        return held

    def _leave_out(self, tenant: str, until_ms: int) -> None:
        self._out.add(tenant)
        self._left_out.set((tenant,), until_ms)
        for item in self._in_memory.get(tenant, ()):
            self._put_aside(item)

    def _put_aside(self, item: Item) -> None:
        if not item.stored:
            self._aside[item] = None

    def _forget(self, item: Item) -> None:
        """It is not in memory alone any more."""
        self._aside.pop(item, None)
        mine = self._in_memory.get(item.tenant)
        if mine is not None:
            mine.pop(item, None)
            if not mine:
                del self._in_memory[item.tenant]
