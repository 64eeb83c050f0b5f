"""A bulkhead's places, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from contracts.call_errors import BulkheadFull, DeadlineExceeded
from reliability.bulkhead import Bulkhead
from reliability.deadline import NEVER, after
from runtime.settings_reliability import BulkheadSettings
from tests.support.virtual import LoopClock, simulate


def bulkhead(clock: LoopClock, **rules: float) -> Bulkhead:
    return Bulkhead("shop", BulkheadSettings.model_validate(rules), clock)


def test_as_many_as_allowed_are_under_way_and_the_longest_waiting_is_next():
    async def story(clock: LoopClock) -> None:
        places = bulkhead(clock, calls=2, wait_s=10)
        order: list[int] = []
        most = 0

        async def caller(number: int) -> None:
            nonlocal most
            await places.enter(NEVER)
            order.append(number)
            most = max(most, places.busy)
            await asyncio.sleep(1)
            places.leave()

        await asyncio.gather(*(caller(number) for number in range(7)))
        assert (order, most, places.busy, places.waiting) == (list(range(7)), 2, 0, 0)
        assert clock.monotonic_s() == pytest.approx(4.0)

    simulate(story)


def test_a_full_queue_refuses_at_once_and_a_slow_one_after_its_wait():
    async def story(clock: LoopClock) -> None:
        places = bulkhead(clock, calls=1, waiting=1, wait_s=2)
        await places.enter(NEVER)
        waiting = asyncio.create_task(places.enter(NEVER))
        await asyncio.sleep(0)
        with pytest.raises(BulkheadFull, match=r"1 calls are under way and 1 wait \(bulkhead.waiting\)"):
            await places.enter(NEVER)
        assert clock.monotonic_s() == 0
        with pytest.raises(BulkheadFull, match="no place became free in 2 s"):
            await waiting
        assert (places.busy, places.waiting, clock.monotonic_s()) == (1, 0, 2)

    simulate(story)


def test_nobody_waits_beyond_his_deadline():
    async def story(clock: LoopClock) -> None:
        places = bulkhead(clock, calls=1, wait_s=60)
        await places.enter(NEVER)
        with pytest.raises(DeadlineExceeded):
            await places.enter(after(0.5, clock))
        assert clock.monotonic_s() == 0.5

    simulate(story)


def test_a_place_handed_to_a_caller_that_is_cancelled_in_the_same_moment_goes_on_to_the_next():
    async def story(clock: LoopClock) -> None:
        places = bulkhead(clock, calls=1, wait_s=60)
        await places.enter(NEVER)
        first, second = (asyncio.create_task(places.enter(NEVER)) for _ in range(2))
        await asyncio.sleep(0)
        places.leave()
        first.cancel()
        await second
        assert first.cancelled()
        assert (places.busy, places.waiting) == (1, 0)
        places.leave()
        assert places.busy == 0

    simulate(story)


def test_a_newcomer_does_not_overtake_who_has_been_handed_a_place():
    async def story(clock: LoopClock) -> None:
        places = bulkhead(clock, calls=1, wait_s=60)
        await places.enter(NEVER)
        waiting = asyncio.create_task(places.enter(NEVER))
        await asyncio.sleep(0)
        places.leave()
        newcomer = asyncio.create_task(places.enter(NEVER))
        await asyncio.sleep(0)
        assert waiting.done()
        assert not newcomer.done()
        newcomer.cancel()

    simulate(story)
