from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from contracts.errors import Shed
from reliability.call import Priority
from reliability.gate import Gate
from reliability.load_metrics import LoadMetrics
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import GateSettings
from tests.support.aio import run

LONG_MS = 60_000.0


class Made:
    """A gate with its clock and its counters."""

    def __init__(self, *, width: int = 1, lets: Priority = Priority.BACKGROUND, **settings: object) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.metrics = Metrics()
        given = {"initial": width, "least": width, "most": width, "interval_ms": LONG_MS, **settings}
        chosen = GateSettings.model_validate(given)
        self.gate = Gate("shop", chosen, self.clock, LoadMetrics(self.metrics), lambda: lets)

    def shed(self, priority: str, reason: str) -> float:
        labels = {"name": "shop", "priority": priority, "reason": reason}
        return self.metrics.registry.get_sample_value("headrace_shed_total", labels) or 0.0

    def running(self) -> int:
        lines = self.gate.state()["lines"]
        assert isinstance(lines, list)
        return sum(line["running"] for line in lines)


async def turns(count: int = 5) -> None:
    """Let every task go as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_work_waits_for_its_place_and_the_most_important_gets_it():
    async def body() -> None:
        made, order, release = Made(), [], asyncio.Event()

        async def work(name: str, priority: Priority) -> None:
            async with made.gate.admitted(priority):
                order.append(name)
                await release.wait()

        tasks = [asyncio.create_task(work("first", Priority.LOW))]
        await turns()
        tasks += [asyncio.create_task(work("low", Priority.LOW)), asyncio.create_task(work("order", Priority.CRITICAL))]
        await turns()
        assert order == ["first"]
        release.set()
        await asyncio.gather(*tasks)
        assert order == ["first", "order", "low"]
        assert made.running() == 0

    run(body())


def test_a_cancelled_waiter_leaves_the_line_and_takes_no_place():
    async def body() -> None:
        made = Made()
        async with made.gate.admitted(Priority.NORMAL):
            waiter = asyncio.create_task(made.gate.admitted(Priority.NORMAL).__aenter__())
            await turns()
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
        async with made.gate.admitted(Priority.NORMAL):
            assert made.running() == 1

    run(body())


def test_a_waiter_that_is_cancelled_in_the_moment_it_gets_its_place_hands_it_on():
    async def body() -> None:
        made = Made()
        holder = made.gate.admitted(Priority.NORMAL)
        await holder.__aenter__()
        first = asyncio.create_task(made.gate.admitted(Priority.NORMAL).__aenter__())
        await turns()
        second = asyncio.create_task(made.gate.admitted(Priority.NORMAL).__aenter__())
        await turns()
        await holder.__aexit__(None, None, None)  # the place is given to `first`, whose task has not run yet
        first.cancel()
        await turns()
        assert first.cancelled()
        assert second.done()
        assert made.running() == 1

    run(body())


def test_a_full_queue_turns_work_away_at_once_and_says_why():
    async def body() -> None:
        made = Made(waiting=0)
        async with made.gate.admitted(Priority.NORMAL):
            with pytest.raises(Shed, match=r"shop is overloaded.*normal work.*limit.*1 s"):
                await made.gate.admitted(Priority.NORMAL).__aenter__()
        assert made.shed("normal", "limit") == 1
        assert made.gate.taken() == (2, 1)
        assert made.gate.taken() == (0, 0)

    run(body())


def test_what_nobody_waits_for_any_more_is_not_begun():
    async def body() -> None:
        made = Made()
        made.clock.advance(10)
        with pytest.raises(Shed):
            await made.gate.admitted(Priority.CRITICAL, deadline_s=9.9).__aenter__()
        assert made.shed("critical", "deadline") == 1

    run(body())


def test_nobody_waits_for_longer_than_the_interval_when_everything_hangs():
    async def body() -> None:
        made = Made(interval_ms=1)
        async with made.gate.admitted(Priority.NORMAL):
            with pytest.raises(Shed):
                await made.gate.admitted(Priority.CRITICAL).__aenter__()
        assert made.shed("critical", "queue_delay") == 1

    run(body())


def test_a_level_of_degradation_turns_less_important_work_away():
    async def body() -> None:
        made = Made(width=5, lets=Priority.CRITICAL)
        async with made.gate.admitted(Priority.CRITICAL):
            pass
        with pytest.raises(Shed):
            await made.gate.admitted(Priority.NORMAL).__aenter__()
        assert made.shed("normal", "level") == 1

    run(body())


def test_what_a_level_turns_away_is_no_pressure_that_would_hold_the_level():
    async def body() -> None:
        made = Made(width=5, lets=Priority.CRITICAL)
        for _ in range(50):
            with pytest.raises(Shed):
                await made.gate.admitted(Priority.LOW).__aenter__()
        assert made.gate.taken() == (0, 0)

    run(body())


@pytest.mark.parametrize("failure", [TimeoutError, ConnectionError])
def test_only_timeouts_narrow_the_gate_and_quick_failures_teach_it_nothing(failure: type[Exception]):
    async def body() -> None:
        made = Made(width=40, least=4)

        async def failing() -> None:
            async with made.gate.admitted(Priority.NORMAL):
                made.clock.advance(0.02)
                raise failure

        for _ in range(20):
            with pytest.raises(failure):
                await failing()
        assert (made.gate.state()["width"] == 40) == (failure is ConnectionError)
        assert made.gate.state()["unloaded_ms"] is None
        assert made.running() == 0

    run(body())
