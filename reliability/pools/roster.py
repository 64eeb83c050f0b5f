"""Which child of `pools.cpu` does what: the decisions, without a process, a clock or a wait. Pure.

Where it stands: `pools.cpu` tells what happened and carries out the actions that are answered.

    a child:

        start --> STARTING --ready--> IDLE --give--> BUSY --done--> IDLE     (done counts towards wear)
                     |                 |               |
                     | gone            | retire        | cut (too long, cancelled, stopped)
                     v                 v               v
                   (gone)           LEAVING --gone--> (gone)                 gone while BUSY: its task is lost

    a task:

        submit --> waiting --give--> running --done--> over
           |          | drop            | drop: its child is cut       each is over once,
           v refuse   v                 v lost: its child died         by exactly one of these
          over       over              over

Rules, each held by tests/property/test_roster.py:

- At most `size` children run tasks, save for worn ones: a worn child works on until its successor is ready, so that
  recycling costs no capacity. One that is cut is no longer counted: its place is filled at once.
- No task waits while a child is idle. A child has one task at a time. A child that was cut never gets another.
- A child that ends though nobody asked it to (at start, or idle) makes the next start wait (`attempt` counts them);
  a task that is done ends that count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto


class Phase(Enum):
    """Where a child is in its life."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    LEAVING = auto()


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child; `attempt` starts or idle children in a row went wrong before it: 0 starts at once."""

    child: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Give:
    """Send the task to the child."""

    child: int
    task: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Let an idle child end in its own time: it is worn, or the pool stops."""

    child: int


@dataclass(frozen=True, slots=True)
class Cut:
    """End a busy child, by force if need be."""

    child: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The task is over and was never begun: the queue is full, or (`closed`) the pool stops."""

    task: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Lose:
    """The task is over, because its child is gone."""

    task: int


Action = Start | Give | Retire | Cut | Refuse | Lose


@dataclass(slots=True)
class _Child:
    phase: Phase
    task: int | None = None
    worn: bool = False


class Roster:
    """The children of one pool and the tasks that wait. Every method answers what is to be done, in this order."""

    def __init__(self, size: int, queue_limit: int) -> None:
        """`size` children (>= 1); at most `queue_limit` tasks (>= 0) wait."""
        self._size = size
        self._queue_limit = queue_limit
        self._children: dict[int, _Child] = {}
        self._waiting: deque[int] = deque()
        self._next_child = 0
        self._failures = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Tasks that no child has."""
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """Tasks that a child has."""
        return sum(child.task is not None for child in self._children.values())

    @property
    def living(self) -> int:
        """Children that have a task or could be given one."""
        return sum(child.phase in (Phase.IDLE, Phase.BUSY) for child in self._children.values())

    def open(self) -> list[Action]:
        """The pool begins."""
        return self._settled()

    def close(self) -> list[Action]:
        """The pool stops: what waits is refused, what runs goes on until it is done or dropped."""
        self._closed = True
        refused: list[Action] = [Refuse(task, closed=True) for task in self._waiting]
        self._waiting.clear()
        return refused + self._settled()

    def submit(self, task: int) -> list[Action]:
        """A new task, with a number that was never used."""
        has_room = len(self._waiting) < self._queue_limit or self._idle() is not None
        if self._closed or not has_room:
            return [Refuse(task, closed=self._closed)]
        self._waiting.append(task)
        return self._settled()

    def drop(self, task: int) -> list[Action]:
        """Nobody wants the task any more, or it ran for too long; unknown and finished tasks are none."""
        if task in self._waiting:
            self._waiting.remove(task)
            return []
        holder = next((number for number, child in self._children.items() if child.task == task), None)
        if holder is None:
            return []
        child = self._children[holder]
        child.phase, child.task = Phase.LEAVING, None
        return [Cut(holder), *self._settled()]

    def ready(self, child: int) -> list[Action]:
        """A child has started."""
        self._children[child].phase = Phase.IDLE
        return self._settled()

    def done(self, child: int, *, worn: bool) -> list[Action]:
        """A child's task is over; `worn` asks for a successor."""
        found = self._children[child]
        if found.phase is not Phase.BUSY:
            return []  # it was cut meanwhile
        found.phase, found.task, found.worn = Phase.IDLE, None, found.worn or worn
        self._failures = 0
        return self._settled()

    def gone(self, child: int) -> list[Action]:
        """A child's process has ended, for whatever reason."""
        found = self._children.pop(child)
        lost: list[Action] = [] if found.task is None else [Lose(found.task)]
        if found.phase in (Phase.STARTING, Phase.IDLE):
            self._failures += 1
        return lost + self._settled()

    def _settled(self) -> list[Action]:
        return [*self._retire(), *self._start(), *self._give()]

    def _retire(self) -> list[Action]:
        if self._closed:
            leaving = [number for number, child in self._children.items() if child.phase is Phase.IDLE]
        else:
            spare = max(0, self.living - self._size)
            leaving = [n for n, child in self._children.items() if child.worn and child.phase is Phase.IDLE][:spare]
        for number in leaving:
            self._children[number].phase = Phase.LEAVING
        return [Retire(number) for number in leaving]

    def _start(self) -> list[Action]:
        if self._closed:
            return []
        staying = [child for child in self._children.values() if child.phase is not Phase.LEAVING]
        wanted = self._size + sum(child.worn for child in staying)
        starts: list[Action] = []
        for _ in range(wanted - len(staying)):
            self._children[self._next_child] = _Child(Phase.STARTING)
            starts.append(Start(self._next_child, self._failures))
            self._next_child += 1
        return starts

    def _give(self) -> list[Action]:
        given: list[Action] = []
        while self._waiting and (number := self._idle()) is not None:
            child = self._children[number]
            child.phase, child.task = Phase.BUSY, self._waiting.popleft()
            given.append(Give(number, child.task))
        return given

    def _idle(self) -> int | None:
        return next((number for number, child in self._children.items() if child.phase is Phase.IDLE), None)
