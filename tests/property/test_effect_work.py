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
STEPS = st.sampled_from(["read", "read", "back", "again", "flush", "pass", "pass", "half", "die"])
AGGREGATES = st.sampled_from("xyz")
TRIES = 3


class World:
    """A log of values, letters that come back, and a worker that reads both."""

    def __init__(self, values: list[str], data: st.DataObject) -> None:
        self.values, self.data, self.read_to = values, data, 0
        # Numbers on the retry topic, repeats and all; up to where it was acknowledged and read.
        self.sent: list[int] = []
        self.sent_count = self.back_to = self.back_read_to = 0
        quota = data.draw(st.sampled_from([0.0, 2.0]))
        self.bench = EffectBench(tries=TRIES, tenant_per_s=quota, tenant_burst=2)
        self.bench.shop.script = lambda _record, _which: cast("Outcome", data.draw(OUTCOMES))

    async def step(self, step: str) -> None:
        """Something happens."""
        if step == "read":
            await self.read(self.data.draw(st.integers(1, 5)))
        elif step in ("back", "again"):
            await self.come_back(again=step == "again")
        elif step == "flush":
            await self.bench.flush()
            self.back_to = self.back_read_to
        elif step == "pass":
            await self.bench.pass_s(self.data.draw(st.sampled_from([0.1, 1.0, 3600.0])))
            self.back_to = self.back_read_to
        else:
            if step == "half":
                self.bench.half_a_flush()
            await self.bench.die()
            self.read_to = self.bench.acknowledged_to + 1  # the log is read again from what was acknowledged
            self.back_read_to = self.back_to

    async def come_back(self, *, again: bool) -> None:
        """One more letter is sent, or the sender repeats the last ones; then the retry topic is read to its end."""
        if again:
            self.sent += self.sent[-3:]
        else:
            self.sent_count += 1
            self.sent.append(self.sent_count)
        await self.read_back()

    async def read_back(self) -> None:
        """Read the retry topic to its end. Letter n is `xyz`[n % 3]'s, and has the id 100 + n."""
        found = [(n, f"{'xyz'[n % 3]}:letter{n}", 1000 + n, 100 + n) for n in self.sent[self.back_read_to :]]
        if found:
            await self.bench.take_back(*found)
        self.back_read_to = len(self.sent)

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
        await self.read_back()
        for _ in range(3 * (len(self.values) + self.sent_count)):
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
        dead = {letter.payload.decode() for letter in bench.letters}
        letters = {f"{'xyz'[n % 3]}:letter{n}": n for n in range(1, world.sent_count + 1)}
        assert set(bench.shop.done) | dead == {*values, *letters}, "lost"
        told = {one.seq for one in bench.recovered}
        assert told | {letter.requeue_seq for letter in bench.letters} >= set(letters.values()), "not told of"
        assert told <= {letters[name] for name in bench.shop.done if name in letters}, "told of too soon"
        assert not [key for key, _ in bench.store.items(0) if b"later" in key], "rows that nobody needs"
        first_done: dict[str, list[int]] = defaultdict(list)
        for name in dict.fromkeys(bench.shop.done):
            aggregate, _, at = name.partition(":")
            if name not in letters:
                first_done[aggregate].append(int(at))
        assert all(order == sorted(order) for order in first_done.values()), "out of order"

    run(scenario())
