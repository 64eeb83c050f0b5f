"""Whatever callers do, places are neither lost nor given twice."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.call_errors import CallRefused
from reliability.bulkhead import Bulkhead
from reliability.deadline import after
from runtime.settings_reliability import BulkheadSettings
from tests.support.virtual import LoopClock, simulate

TENTHS = st.integers(0, 20)


@settings(max_examples=60)
@given(
    calls=st.integers(1, 4),
    waiting=st.integers(0, 4),
    callers=st.lists(st.tuples(TENTHS, TENTHS, TENTHS, st.none() | TENTHS), max_size=25),
)
def test_places_are_neither_lost_nor_given_twice(
    calls: int, waiting: int, callers: list[tuple[int, int, int, int | None]]
):
    async def story(clock: LoopClock) -> None:
        places = Bulkhead("shop", BulkheadSettings(calls=calls, waiting=waiting, wait_s=0.7), clock)
        inside = 0

        async def caller(begin: int, hold: int, patience: int) -> None:
            nonlocal inside
            await asyncio.sleep(begin / 10)
            try:
                await places.enter(after(patience / 10, clock))
            except CallRefused:
                return
            inside += 1
            assert inside <= calls
            try:
                await asyncio.sleep(hold / 10)
            finally:
                inside -= 1
                places.leave()

        loop = asyncio.get_running_loop()
        tasks = []
        for begin, hold, patience, cancelled_at in callers:
            tasks.append(asyncio.create_task(caller(begin, hold, patience)))
            if cancelled_at is not None:
                loop.call_later(cancelled_at / 10, tasks[-1].cancel)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        assert (inside, places.busy, places.waiting) == (0, 0, 0)

    simulate(story)
