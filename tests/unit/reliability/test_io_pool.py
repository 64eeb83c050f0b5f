"""pools.io: no more calls than slots, none for ever in the queue, and a stop that ends what does not end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from reliability.pools.errors import PoolClosed, PoolFull, TaskTimedOut
from reliability.pools.io import IoPool
from reliability.pools.metrics import PoolMetrics
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings_pools import IoPoolSettings
from tests.support.aio import run


class Calls:
    """Calls that wait for a door, and how many were inside at once."""

    def __init__(self) -> None:
        self.door = asyncio.Event()
        self.inside = self.most = 0
        self.order: list[int] = []
        self.ended = 0

    def numbered(self, number: int) -> Callable[[], Coroutine[Any, Any, int]]:
        async def call() -> int:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(number)
            try:
                await self.door.wait()
                return number
            finally:
                self.inside -= 1
                self.ended += 1

        return call


def pool(**settings: float) -> IoPool:
    chosen = IoPoolSettings.model_validate({"slots": 2, **settings})
    return IoPool("test", chosen, PoolMetrics(Metrics()), ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_no_more_calls_than_slots_run_at_once_and_all_run_in_their_order():
    async def body() -> None:
        calls = Calls()
        async with pool() as io:
            asked = [asyncio.create_task(io.run(calls.numbered(n), name="t")) for n in range(7)]
            await settle()
            assert calls.order == [0, 1]
            calls.door.set()
            assert await asyncio.gather(*asked) == list(range(7))
        assert calls.most == 2
        assert calls.order == list(range(7))

    run(body())


def test_a_full_queue_refuses_at_once():
    async def body() -> None:
        calls = Calls()
        async with pool(queue=1) as io:
            asked = [asyncio.create_task(io.run(calls.numbered(n), name="t")) for n in range(3)]
            await settle()
            with pytest.raises(PoolFull):
                await io.run(calls.numbered(3), name="t")
            calls.door.set()
            await asyncio.gather(*asked)

    run(body())


def test_a_cancelled_caller_frees_its_slot_when_its_call_has_ended():
    async def body() -> None:
        calls = Calls()
        async with pool(slots=1) as io:
            first = asyncio.create_task(io.run(calls.numbered(0), name="t"))
            second = asyncio.create_task(io.run(calls.numbered(1), name="t"))
            third = asyncio.create_task(io.run(calls.numbered(2), name="t"))
            await settle()
            second.cancel()  # waits
            first.cancel()  # runs
            await settle()
            assert (calls.ended, calls.order) == (1, [0, 2])
            assert first.cancelled()
            assert second.cancelled()
            calls.door.set()
            assert await third == 2

    run(body())


def test_a_call_and_a_wait_end_at_their_limits():
    async def body() -> None:
        calls = Calls()
        async with pool(slots=1, wait_s=0.01, stop_grace_s=0) as io:
            with pytest.raises(TaskTimedOut, match="was ended"):
                await io.run(calls.numbered(0), name="t", timeout_s=0.001)
            blocking = asyncio.create_task(io.run(calls.numbered(1), name="t"))
            await settle()
            with pytest.raises(TaskTimedOut, match="for a free slot"):
                await io.run(calls.numbered(2), name="t")
            calls.door.set()
            await blocking

    run(body())


def test_a_timeout_of_the_calls_own_stays_what_it_is():
    async def call() -> None:
        raise TimeoutError("of its own")

    async def body() -> None:
        async with pool() as io:
            with pytest.raises(TimeoutError, match="of its own"):
                await io.run(call, name="t", timeout_s=5)

    run(body())


def test_a_stop_refuses_what_waits_and_ends_what_does_not_end():
    async def body() -> None:
        calls = Calls()
        io = pool(slots=1, stop_grace_s=0)
        running = asyncio.create_task(io.run(calls.numbered(0), name="t"))
        waiting = asyncio.create_task(io.run(calls.numbered(1), name="t"))
        await settle()
        await io.stop()
        with pytest.raises(PoolClosed, match="was ended"):
            await running
        with pytest.raises(PoolClosed, match="not begun"):
            await waiting
        with pytest.raises(PoolClosed, match="not begun"):
            await io.run(calls.numbered(2), name="t")
        assert calls.order == [0]
        assert calls.inside == 0

    run(body())


def test_a_stop_waits_for_what_ends_in_time():
    async def body() -> None:
        calls = Calls()
        io = pool(stop_grace_s=10)
        running = asyncio.create_task(io.run(calls.numbered(0), name="t"))
        await settle()
        stopping = asyncio.create_task(io.stop())
        await settle()
        calls.door.set()
        await stopping
        assert await running == 0

    run(body())
