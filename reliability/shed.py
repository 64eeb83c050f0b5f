"""Who goes next and who is turned away when more comes than can be worked on at once. Pure: no clock, no waiting.

Where it stands: `reliability.gate` gives it the time and the width, and wakes whoever it names. A piece of work:

    arrive --> RUNNING ------------------------------------------> done
       |          ^
       |          | next: the most important first; within a priority, who waited longest
       +--> WAITING --+--> turned away: QUEUE_DELAY  the queue stands (below) and this one waited for 2 * target
       |              +--> turned away: DEADLINE     too little time is left for the work: nobody would wait for it
       |              +--> turned away: LIMIT        somebody more important needed its place in a full queue
       +--> turned away: LIMIT                       the queue is full of what is as important, or more
       +--> turned away: QUEUE_DELAY                 nobody of its priority got a place for an interval (below)

A queue that empties now and then buffers a burst and is left alone. One whose *shortest* wait over `interval_s` is
above `target_s` never empties: it only makes everybody late, so what waited for too long in it is turned away (CoDel's
idea, in the form that Facebook's servers use for requests). Each priority is judged alone: a standing queue of low work
says nothing about orders.

A priority that gets no place at all for `interval_s` is turned away at the door, all but one that waits to find out
when that is over. To wait and be turned away later costs the process about as much as to be served: at three times too
much, a loop that was a little short of processor spent it on that, and served a third of what it could.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from reliability.call import Priority


class Reason(StrEnum):
    """Why something was turned away."""

    LIMIT = "limit"
    QUEUE_DELAY = "queue_delay"
    DEADLINE = "deadline"
    LEVEL = "level"


class LineRules(NamedTuple):
    """See settings, group `gate`; `shares` has one entry for each priority, 0 < share <= 1.

    `target_s` has to be at least what the work takes unloaded: until a place is free, that is a wait without a queue.
    """

    target_s: float
    interval_s: float
    waiting: int
    shares: tuple[float, ...]
    needs_s: float = 0.0
    """What has waited and has less time left than this is not begun."""


class Ticket:
    """One piece of work in line. `turned_away` is set when it will never run."""

    __slots__ = ("deadline_s", "priority", "running", "since_s", "turned_away")

    def __init__(self, priority: Priority, since_s: float, deadline_s: float) -> None:
        self.priority = priority
        self.since_s = since_s
        self.deadline_s = deadline_s
        self.running = False
        self.turned_away: Reason | None = None


class Standing:
    """Whether one priority's queue stands, from the waits of those that left it."""

    def __init__(self) -> None:
        self.stands = False
        self._until_s = 0.0
        self._shortest_s = 0.0

    def judge(self, wait_s: float, now_s: float, rules: LineRules) -> bool:
        """Note a wait; whether it was too long for a queue that stands."""
        if now_s >= self._until_s:
            # Nothing for a whole interval: the queue was empty, whatever it was before.
            self.stands = self._shortest_s > rules.target_s and now_s < self._until_s + rules.interval_s
            self._until_s = now_s + rules.interval_s
            self._shortest_s = wait_s
            return False  # one wait is no proof: the second in an interval may be judged
        self._shortest_s = min(self._shortest_s, wait_s)
        return self.stands and wait_s > 2 * rules.target_s


class Door:
    """Whether one priority gets no place at all, from when its work had to wait and when some of it began."""

    def __init__(self) -> None:
        self._shut_since_s: float | None = None
        self._asked_s = 0.0

    def began(self) -> None:
        """Some of its work got a place."""
        self._shut_since_s = None

    def hopeless(self, now_s: float, interval_s: float) -> bool:
        """Note that work has to wait; whether none has begun for an interval in which some was always asked for."""
        if self._shut_since_s is None or now_s - self._asked_s > interval_s:
            self._shut_since_s = now_s
        self._asked_s = now_s
        return now_s - self._shut_since_s > interval_s


class Line:
    """Those that run and those that wait, by priority."""

    def __init__(self, rules: LineRules) -> None:
        self.rules = rules
        """May be replaced at any time."""
        self._running = [0] * len(Priority)
        self._queues: tuple[deque[Ticket], ...] = tuple(deque() for _ in Priority)
        self._standing = tuple(Standing() for _ in Priority)
        self._doors = tuple(Door() for _ in Priority)

    @property
    def running(self) -> int:
        """How many run."""
        return sum(self._running)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(queue) for queue in self._queues)

    def arrive(self, priority: Priority, now_s: float, deadline_s: float, width: int) -> tuple[Ticket, Ticket | None]:
        """A newcomer's ticket: it runs, waits or was turned away; and a waiting one that had to make room for it."""
        ticket = Ticket(priority, now_s, deadline_s)
        if deadline_s <= now_s:
            ticket.turned_away = Reason.DEADLINE
            return ticket, None
        if not any(self._queues[: priority + 1]) and self._fits(priority, width):
            self._standing[priority].judge(0.0, now_s, self.rules)
            self._run(ticket)
            return ticket, None
        if self._doors[priority].hopeless(now_s, self.rules.interval_s) and self._queues[priority]:
            ticket.turned_away = Reason.QUEUE_DELAY
            return ticket, None
        evicted: Ticket | None = None
        if self.waiting >= self.rules.waiting:
            evicted = self._last_below(priority)
            (evicted or ticket).turned_away = Reason.LIMIT
        if ticket.turned_away is None:
            self._queues[priority].append(ticket)
        return ticket, evicted

    def next(self, now_s: float, width: int) -> Iterator[Ticket]:
        """Those that no longer wait, in order: each runs now, or was turned away."""
        for priority in Priority:
            queue, standing = self._queues[priority], self._standing[priority]
            latest_s = now_s + self.rules.needs_s
            while queue and (queue[0].deadline_s <= latest_s or self._fits(priority, width)):
                ticket = queue.popleft()
                if ticket.deadline_s <= latest_s:
                    ticket.turned_away = Reason.DEADLINE
                elif standing.judge(now_s - ticket.since_s, now_s, self.rules):
                    ticket.turned_away = Reason.QUEUE_DELAY
                else:
                    self._run(ticket)
                yield ticket

    def leave(self, ticket: Ticket) -> None:
        """Take a ticket that runs or waits out of the line; nothing happens for any other."""
        if ticket.running:
            ticket.running = False
            self._running[ticket.priority] -= 1
        elif ticket.turned_away is None and ticket in self._queues[ticket.priority]:
            self._queues[ticket.priority].remove(ticket)

    def counts(self) -> Sequence[tuple[str, int, int]]:
        """For each priority: its name, how many run, how many wait."""
        return [(each.name.lower(), self._running[each], len(self._queues[each])) for each in Priority]

    def _fits(self, priority: Priority, width: int) -> bool:
        """Whether one more may run.

        Within the width, and within each share it counts for: what runs of a priority and of those below it.
        """
        if self.running >= width:
            return False
        shares = self.rules.shares
        return all(sum(self._running[p:]) < max(1, int(shares[p] * width)) for p in range(priority + 1))

    def _run(self, ticket: Ticket) -> None:
        ticket.running = True
        self._running[ticket.priority] += 1
        self._doors[ticket.priority].began()

    def _last_below(self, priority: Priority) -> Ticket | None:
        """Take out the one that matters least among those that matter less than `priority`: it waited the longest."""
        for queue in reversed(self._queues[priority + 1 :]):
            if queue:
                return queue.popleft()
        return None
