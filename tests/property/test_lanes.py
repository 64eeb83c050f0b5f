"""Order within a lane, turns between tenants, and nothing lost, whatever happens to records."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.lanes import Item, Lanes, Place
from contracts.requeue import Origin

TENANTS = st.sampled_from("AB")
AGGREGATES = st.sampled_from("xy")


def item(position: int, tenant: str = "A", aggregate: str = "x") -> Item:
    return Item((tenant, aggregate), Place(position, ""), Origin("orders", "", 0, position), None)


def admit(_item: Item) -> int:
    return 0


class LanesMachine(RuleBasedStateMachine):
    """Records come, run, fail and are done at random; a model knows what is left and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes, self.now_ms, self.position = Lanes(), 0, 0
        self.left: dict[tuple[str, ...], list[Item]] = defaultdict(list)
        self.running: list[Item] = []
        self.left_out: dict[str, int] = {}
        self.aside: set[Item] = set()

    @rule(tenant=TENANTS, aggregate=AGGREGATES)
    def comes(self, tenant: str, aggregate: str) -> None:
        self.position += 1
        new = item(self.position, tenant, aggregate)
        self.left[new.lane].append(new)
        self.lanes.add(new, self.now_ms)

    @rule(tenant=TENANTS, aggregate=AGGREGATES, back=st.integers(1, 30))
    def comes_back(self, tenant: str, aggregate: str, back: int) -> None:
        """A letter: it stands earlier in the log, between others."""
        self.position += 1
        place = Place(max(0, self.position - back), f"letter {self.position}")
        new = Item((tenant, aggregate), place, Origin("orders", "", 0, 0), None, stored=True)
        queue = self.left[new.lane]
        first = int(bool(queue) and queue[0] in self.running)
        queue[first:] = sorted([*queue[first:], new], key=lambda each: each.place)
        self.lanes.add(new, self.now_ms)

    @rule(refused=st.sampled_from(["", "", "A", "B"]))
    def starts(self, refused: str) -> None:
        def admitted(each: Item) -> int:
            assert self.left_out.get(each.tenant, 0) <= self.now_ms, "asked for a tenant that is left out"
            if each.tenant != refused:
                return 0
            self.left_out[refused] = self.now_ms + 5
            return 5

        started = self.lanes.start(self.now_ms, admitted)
        if started is None:
            may = [queue[0] for queue in self.left.values() if queue and queue[0] not in self.running]
            may = [one for one in may if self.left_out.get(one.tenant, 0) <= self.now_ms]
            assert all(one.due_ms > self.now_ms for one in may), "something could have run"
            return
        assert started is self.left[started.lane][0], "not the first of its lane"
        assert started not in self.running
        assert started.due_ms <= self.now_ms
        assert self.left_out.get(started.tenant, 0) <= self.now_ms
        self.running.append(started)

    @rule(data=st.data(), delay_ms=st.integers(1, 20))
    def fails(self, data: st.DataObject, delay_ms: int) -> None:
        if self.running:
            failed = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            self.left[failed.lane].sort(key=lambda each: each.place)  # letters may have come that stand before it
            self.lanes.wait(failed, self.now_ms + delay_ms, self.now_ms)

    @rule(data=st.data())
    def is_done(self, data: st.DataObject) -> None:
        if self.running:
            done = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            self.left[done.lane].remove(done)
            self.lanes.remove(done, self.now_ms)

    @rule(ms=st.integers(1, 30))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def is_written_down(self) -> None:
        for one in self.lanes.take_aside():
            assert one not in self.running
            assert one not in self.aside, "set aside twice"
            assert any(one in queue for queue in self.left.values()), "not there any more"
            self.aside.add(one)
        held_up = [queue for queue in self.left.values() if queue and queue[0].due_ms > self.now_ms]
        assert all(one.stored for queue in held_up if queue[0] not in self.running for one in queue)

    @invariant()
    def counts_are_right(self) -> None:
        assert self.lanes.running_count == len(self.running)
        assert self.lanes.waiting_count == sum(map(len, self.left.values())) - len(self.running)
        assert all(self.lanes.runs(one) == (one in self.running) for queue in self.left.values() for one in queue)


LanesMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLanes = LanesMachine.TestCase


@given(st.integers(1, 50))
def test_a_tenant_with_many_lanes_takes_turns_with_one_that_has_few(count: int):
    lanes = Lanes()
    for position in range(count):
        lanes.add(item(position, "A", f"x{position}"), 0)
    lanes.add(item(count, "B", "y"), 0)
    started = [lanes.start(0, admit) for _ in range(2)]
    assert {one.tenant for one in started if one} == {"A", "B"}


def test_what_comes_behind_a_record_that_waits_is_set_aside_and_what_comes_behind_one_that_runs_is_not():
    lanes, first, second, third = Lanes(), item(1), item(2), item(3)
    lanes.add(first, 0)
    assert lanes.start(0, admit) is first
    lanes.add(second, 0)
    assert lanes.take_aside() == []
    lanes.wait(first, 100, 0)
    lanes.add(third, 1)
    assert lanes.take_aside() == [second, third]
    assert lanes.start(99, admit) is None
    assert lanes.start(100, admit) is first
    lanes.remove(first, 100)
    assert lanes.start(100, admit) is second
