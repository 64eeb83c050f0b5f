from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts.call_errors import CallTimeout
from contracts.errors import RateLimited, Shed
from reliability.call import Priority, Try
from reliability.gate import Gate
from reliability.limiter import LocalLimiter, Rate, Verdict, Want
from reliability.load_layers import LimitLayer, ShedLayer
from reliability.load_metrics import LoadMetrics
from reliability.stack import Stack
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import GateSettings
from tests.support.aio import run

CLOCK = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def gate(**settings: object) -> Gate:
    return Gate("shop", GateSettings.model_validate(settings), CLOCK, LoadMetrics(Metrics()))


async def works(_try: Try) -> str:
    return "done"


def test_a_stack_refuses_whose_limit_is_used_up_before_anything_is_done():
    limiter, rate, made = LocalLimiter(CLOCK), Rate(1.0, 2), []

    async def take(key: str) -> Verdict:
        return limiter.take([Want("tenant", (key,), rate)])

    async def work(_try: Try) -> None:
        made.append(1)

    async def body() -> None:
        stack = Stack("shop", [LimitLayer(take)], CLOCK, deadline_s=1.0)
        for _ in range(2):
            await stack.call(work, idempotent=True, key="acme")
        with pytest.raises(RateLimited, match=r"tenant acme is used up; ask again in 1\.000 s"):
            await stack.call(work, idempotent=True, key="acme")
        await stack.call(work, idempotent=True, key="bolt")

    run(body())
    assert len(made) == 3


def test_a_stack_behind_a_gate_sheds_by_priority():
    async def body() -> None:
        shop = gate(initial=1, least=1, most=1, waiting=0)
        stack = Stack("shop", [ShedLayer(shop)], CLOCK, deadline_s=1.0)
        async with shop.admitted(Priority.LOW):
            with pytest.raises(Shed):
                await stack.call(works, idempotent=True, priority=Priority.CRITICAL)
        assert await stack.call(works, idempotent=True, priority=Priority.BACKGROUND) == "done"

    run(body())


def test_tries_that_time_out_narrow_the_gate_before_the_call():
    async def late(_try: Try) -> None:
        raise CallTimeout("shop", 1.0)

    async def body() -> None:
        shop = gate(initial=40)
        stack = Stack("shop", [ShedLayer(shop)], CLOCK, deadline_s=1.0)
        for _ in range(20):
            with pytest.raises(CallTimeout):
                await stack.call(late, idempotent=True)
            CLOCK.advance(0.02)
        assert shop.state()["width"] != 40

    run(body())
