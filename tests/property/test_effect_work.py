"""An effect agent under failures and kills: each record has its effect or is a dead letter, in order by aggregate.

The world is drawn: how each try of each record ends, and when the worker flushes, dies, dies in the midst of a flush.
"""

from __future__ import annotations

from collections import defaultdict
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.effect import Done, Outcome
from tests.support.aio import run
from tests.support.effects import DEAD, LATER, NOT_NOW, EffectBench

OUTCOMES = st.sampled_from([Done(), Done(), Done(), LATER, LATER, NOT_NOW, DEAD])
STEPS = st.sampled_from(["read", "read", "flush", "pass", "pass", "half", "die"])
AGGREGATES = st.sampled_from("xyz")
TRIES = 3


class World:
    """A log of values, and a worker that reads it."""

    def __init__(self, values: list[str], data: st.DataObject) -> None:
        self.values, self.data, self.read_to = values, data, 0
        quota = data.draw(st.sampled_from([0.0, 2.0]))
        self.bench = EffectBench(tries=TRIES, tenant_per_s=quota, tenant_burst=2)
        self.bench.shop.script = lambda _record, _which: cast("Outcome", data.draw(OUTCOMES))

    async def step(self, step: str) -> None:
        """Something happens."""
        if step == "read":
            await self.read(self.data.draw(st.integers(1, 5)))
        elif step == "flush":
            await self.bench.flush()
        elif step == "pass":
            await self.bench.pass_s(self.data.draw(st.sampled_from([0.1, 1.0, 3600.0])))
        else:
            if step == "half":
                self.bench.half_a_flush()
            await self.bench.die()
            self.read_to = self.bench.acknowledged_to + 1  # the log is read again from what was acknowledged

    async def read(self, count: int) -> None:
        """Read on."""
        found = self.values[self.read_to : self.read_to + count]
        if found:
            await self.bench.fold(self.read_to, *found)
            self.read_to += len(found)

    async def come_to_an_end(self) -> None:
        """From now on every call succeeds."""
        self.bench.shop.script = lambda _record, _which: Done()
        await self.read(len(self.values))
        for _ in range(3 * len(self.values)):
            await self.bench.pass_s(3600.0)


@settings(max_examples=80, deadline=None)
@given(st.lists(AGGREGATES, min_size=1, max_size=12), st.lists(STEPS, max_size=25), st.data())
def test_nothing_is_lost_and_no_aggregate_is_out_of_order(aggregates: list[str], steps: list[str], data: st.DataObject):
    values = [f"{aggregate}:{at}" for at, aggregate in enumerate(aggregates)]

    async def scenario() -> None:
        world = World(values, data)
        for step in steps:
            await world.step(step)
        await world.come_to_an_end()

        bench = world.bench
        assert bench.acknowledged_to == len(values) - 1
        ended = set(bench.shop.done) | {letter.payload.decode() for letter in bench.letters}
        assert ended == set(values), "lost"
        assert not [key for key, _ in bench.store.items(0) if b"later" in key], "rows that nobody needs"
        first_done: dict[str, list[int]] = defaultdict(list)
        for name in dict.fromkeys(bench.shop.done):
            aggregate, _, at = name.partition(":")
            first_done[aggregate].append(int(at))
        assert all(order == sorted(order) for order in first_done.values()), "out of order"

    run(scenario())
