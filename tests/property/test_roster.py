"""Whatever happens to children and tasks, in whatever order: reliability.pools.roster keeps its rules."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from reliability.pools.roster import Action, Cut, Give, Lose, Refuse, Retire, Roster, Start

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "ready", "done", "worn", "die", "end", "drop"]),
        st.integers(min_value=0, max_value=9),
    ),
    max_size=80,
)


class World:
    """Children as processes, and tasks as their callers see them: what the actions have made of them."""

    def __init__(self, size: int, queue: int) -> None:
        self.size, self.queue = size, queue
        self.roster = Roster(size, queue)
        self.starting: list[int] = []
        self.idle: list[int] = []
        self.has: dict[int, int] = {}
        self.leaving: list[int] = []
        self.worn: set[int] = set()
        self.waiting: list[int] = []
        self.ended: Counter[int] = Counter()
        self.submitted = 0
        self.carry_out(self.roster.open())

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(child, attempt):
                    assert attempt >= 0
                    self.starting.append(child)
                case Give(child, task):
                    self.idle.remove(child)  # only an idle child, so never one that was cut
                    assert self.waiting.pop(0) == task  # in the order of the calls
                    self.has[child] = task
                case Retire(child):
                    self.idle.remove(child)
                    self.leaving.append(child)
                case Cut(child):
                    del self.has[child]
                    self.leaving.append(child)
                case Refuse(task, _):
                    self.waiting.remove(task)
                    self.ended[task] += 1
                case Lose(task):
                    self.ended[task] += 1

    def step(self, what: str, pick: int) -> None:
        match what:
            case "submit":
                self.waiting.append(self.submitted)
                self.submitted += 1
                self.carry_out(self.roster.submit(self.submitted - 1))
            case "ready" if self.starting:
                child = self.starting.pop(pick % len(self.starting))
                self.idle.append(child)
                self.carry_out(self.roster.ready(child))
            case "done" | "worn" if self.has:
                self.finish(sorted(self.has)[pick % len(self.has)], worn=what == "worn")
            case "die":
                self.die(pick)
            case "end" if self.leaving:
                self.carry_out(self.roster.gone(self.leaving.pop(pick % len(self.leaving))))
            case "drop":
                self.drop(pick)

    def finish(self, child: int, *, worn: bool) -> None:
        self.ended[self.has.pop(child)] += 1
        self.idle.append(child)
        if worn:
            self.worn.add(child)
        self.carry_out(self.roster.done(child, worn=worn))

    def die(self, pick: int) -> None:
        living = sorted({*self.starting, *self.idle, *self.has})
        if living:
            child = living[pick % len(living)]
            for kind in (self.starting, self.idle):
                if child in kind:
                    kind.remove(child)
            self.has.pop(child, None)
            self.carry_out(self.roster.gone(child))

    def drop(self, pick: int) -> None:
        wanted = sorted({*self.waiting, *self.has.values()})
        if wanted:
            task = wanted[pick % len(wanted)]
            if task in self.waiting:
                self.waiting.remove(task)
            self.ended[task] += 1
            self.carry_out(self.roster.drop(task))

    def check(self) -> None:
        working = {*self.starting, *self.idle, *self.has}
        successors = len(self.worn & working)
        assert len(working) == self.size + successors
        assert not (self.waiting and self.idle), "a task waits while a child is idle"
        assert len(self.waiting) <= self.queue
        assert all(times == 1 for times in self.ended.values())
        open_tasks = set(self.waiting) | set(self.has.values())
        assert open_tasks | set(self.ended) == set(range(self.submitted))
        assert not open_tasks & set(self.ended)
        assert (self.roster.waiting, self.roster.busy) == (len(self.waiting), len(self.has))
        ready = len(self.idle) + len(self.has)
        assert not (ready > self.size and self.worn & set(self.idle)), "a worn child stays though its place is filled"


@given(st.integers(min_value=1, max_value=4), st.integers(min_value=0, max_value=4), STEPS)
@settings(max_examples=150)
def test_tasks_end_once_children_work_and_places_are_filled(size: int, queue: int, steps: list[tuple[str, int]]):
    world = World(size, queue)
    for what, pick in steps:
        world.step(what, pick)
        world.check()


@given(st.integers(min_value=1, max_value=4), STEPS, STEPS)
@settings(max_examples=100)
def test_a_closed_pool_begins_nothing_and_comes_to_an_end(
    size: int, before: list[tuple[str, int]], after: list[tuple[str, int]]
):
    world = World(size, 3)
    for what, pick in before:
        world.step(what, pick)
    running = set(world.has.values())
    world.carry_out(world.roster.close())
    for what, pick in after:
        world.step(what, pick)
        assert set(world.has.values()) <= running
        assert not world.waiting
    while world.starting or world.has or world.leaving:
        for what in ("ready", "done", "end"):
            world.step(what, 0)
    assert not world.idle
    assert set(world.ended) == set(range(world.submitted))


def test_starts_that_fail_are_counted_until_a_task_is_done():
    roster = Roster(1, 1)
    assert roster.open() == [Start(0, 0)]
    assert roster.gone(0) == [Start(1, 1)]
    assert roster.ready(1) == []
    assert roster.gone(1) == [Start(2, 2)]
    roster.ready(2)
    assert roster.submit(7) == [Give(2, 7)]
    assert roster.gone(2) == [Lose(7), Start(3, 2)]
    roster.ready(3)
    roster.submit(8)
    assert roster.done(3, worn=True) == [Start(4, 0)]
    assert roster.ready(4) == [Retire(3)]
