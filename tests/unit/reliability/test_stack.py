"""All policies around a call, in virtual time."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import pytest
from prometheus_client import generate_latest

from contracts.call_errors import BreakerOpen, BulkheadFull, CallTimeout, DeadlineExceeded
from reliability.breaker_machine import Mode, State
from reliability.call import Call, Place, Step, Try
from reliability.deadline import Deadline, after
from reliability.dependency import Dependency
from reliability.fault import FAILED, Fault, Health
from reliability.registry import Reliability
from reliability.stack import Stack
from runtime.metrics import Metrics
from runtime.settings import Settings
from tests.support.virtual import LoopClock, simulate


def reliability(clock: LoopClock, **groups: object) -> Reliability:
    return Reliability(Settings.model_validate(groups), "worker", clock, Metrics())


def shop(clock: LoopClock, **groups: object) -> Dependency:
    return reliability(clock, **groups).dependency("shop")


class Work:
    """Fails as often as told, then answers."""

    def __init__(self, *errors: Exception, takes_s: float = 0.0) -> None:
        self.errors = list(errors)
        self.takes_s = takes_s
        self.seen: list[Try] = []

    async def __call__(self, attempt: Try) -> str:
        self.seen.append(attempt)
        await asyncio.sleep(self.takes_s)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_call_that_may_be_repeated_is_tried_again_and_told_which_try_it_is():
    async def story(clock: LoopClock) -> None:
        work = Work(ConnectionResetError(), ConnectionResetError())
        assert await shop(clock).stack.call(work, idempotent=True) == "done"
        assert [attempt.number for attempt in work.seen] == [1, 2, 3]
        assert clock.monotonic_s() <= 0.05 + 0.1

    simulate(story)


def test_a_call_that_must_not_be_repeated_is_not_unless_it_never_arrived():
    async def story(clock: LoopClock) -> None:
        stack = shop(clock).stack
        work = Work(ConnectionResetError())
        with pytest.raises(ConnectionResetError):
            await stack.call(work, idempotent=False)
        assert len(work.seen) == 1
        assert await stack.call(Work(ConnectionRefusedError()), idempotent=False) == "done"

    simulate(story)


def test_the_last_error_is_raised_when_tries_run_out():
    async def story(clock: LoopClock) -> None:
        with pytest.raises(ConnectionResetError, match="third"):
            await shop(clock).stack.call(Work(*(ConnectionResetError(n) for n in ("a", "b", "third"))), idempotent=True)

    simulate(story)


def test_what_the_dependency_asks_to_wait_is_waited_or_the_call_is_given_up():
    async def story(clock: LoopClock) -> None:
        def classify(error: Exception) -> Fault:
            return Fault(Health.SICK, retry=True, throttled=True, retry_after_s=float(str(error)))

        stack = reliability(clock).dependency("shop", classify).stack
        await stack.call(Work(OSError("2")), idempotent=True)
        assert 2.0 <= clock.monotonic_s() <= 3.0
        began_s = clock.monotonic_s()
        with pytest.raises(OSError, match="30"):
            await stack.call(Work(OSError("30")), idempotent=True)
        assert clock.monotonic_s() == began_s

    simulate(story)


def test_a_try_that_hangs_is_ended_and_counts_against_the_dependency():
    async def story(clock: LoopClock) -> None:
        policies = shop(clock, calls={"try_timeout_s": 2.0, "tries": 1}, breaker={"min_calls": 1})
        with pytest.raises(CallTimeout, match="shop: no answer within 2 s"):
            await policies.stack.call(Work(takes_s=math.inf), idempotent=True)
        assert (clock.monotonic_s(), policies.breaker.state) == (2.0, State.OPEN)

    simulate(story)


def test_nothing_outlasts_the_deadline_of_the_caller():
    async def story(clock: LoopClock) -> None:
        stack = shop(clock).stack
        with pytest.raises(CallTimeout):
            await stack.call(Work(takes_s=math.inf), idempotent=True, deadline=after(4.0, clock))
        assert clock.monotonic_s() == pytest.approx(4.0)
        work = Work()
        with pytest.raises(DeadlineExceeded):
            await stack.call(work, idempotent=True, deadline=Deadline(4.0))
        assert work.seen == []

    simulate(story)


def test_without_a_deadline_of_the_caller_the_settings_hold():
    async def story(clock: LoopClock) -> None:
        stack = shop(clock, calls={"deadline_s": 4.0, "tries": 20}).stack
        with pytest.raises(CallTimeout):
            await stack.call(Work(takes_s=math.inf), idempotent=True)
        assert clock.monotonic_s() <= 4.0

    simulate(story)


def test_an_open_breaker_ends_the_retries_of_a_call_too():
    async def story(clock: LoopClock) -> None:
        policies = shop(clock, breaker={"min_calls": 2}, calls={"tries": 5})
        work = Work(*(ConnectionResetError() for _ in range(5)))
        with pytest.raises(BreakerOpen):
            await policies.stack.call(work, idempotent=True)
        assert len(work.seen) == 2

    simulate(story)


def test_all_tries_of_a_call_share_one_place_and_a_full_bulkhead_refuses():
    async def story(clock: LoopClock) -> None:
        policies = shop(clock, bulkhead={"calls": 1, "waiting": 0})
        slow = asyncio.create_task(policies.stack.call(Work(OSError(), takes_s=1.0), idempotent=True))
        await asyncio.sleep(0.5)
        with pytest.raises(BulkheadFull):
            await policies.stack.call(Work(), idempotent=True)
        await slow
        assert policies.bulkhead.busy == 0

    simulate(story)


def test_a_cancelled_call_leaves_nothing_behind():
    async def story(clock: LoopClock) -> None:
        policies = shop(clock)
        call = asyncio.create_task(policies.stack.call(Work(takes_s=1.0), idempotent=True))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (policies.bulkhead.busy, policies.breaker.as_json()["window_calls"]) == (0, 0)

    simulate(story)


def test_retries_inside_of_retries_try_once():
    async def story(clock: LoopClock) -> None:
        every = reliability(clock)
        inner = Work(*(ConnectionResetError() for _ in range(99)))

        async def outer(_attempt: Try) -> str:
            return await every.dependency("inner").stack.call(inner, idempotent=True)

        with pytest.raises(ConnectionResetError):
            await every.dependency("outer").stack.call(outer, idempotent=True)
        assert len(inner.seen) == 3

    simulate(story)


def test_an_empty_quota_leaves_one_try_each_and_successes_fill_it():
    async def story(clock: LoopClock) -> None:
        policies = shop(clock, calls={"quota_tokens": 28}, breaker={"mode": "disabled"})
        work = Work(*(ConnectionResetError() for _ in range(6)))
        for _ in range(4):
            with pytest.raises(ConnectionResetError):
                await policies.stack.call(work, idempotent=True)
        assert (len(work.seen), policies.retry.quota.tokens) == (6, 0)
        for _ in range(14):
            await policies.stack.call(Work(), idempotent=True)
        assert await policies.stack.call(Work(ConnectionResetError()), idempotent=True) == "done"

    simulate(story)


class Noted:
    """A layer that notes when a call passes it."""

    def __init__(self, place: Place, passed: list[Place]) -> None:
        self.place = place
        self._passed = passed

    def around(self, step: Step) -> Step:
        async def noted(call: Call) -> object:
            self._passed.append(self.place)
            return await step(call)

        return noted


def test_layers_stand_in_their_order_however_they_are_given_and_each_place_once():
    async def story(clock: LoopClock) -> None:
        passed: list[Place] = []
        layers = [Noted(place, passed) for place in (Place.TRY, Place.RETRY, Place.SHED, Place.BREAKER)]
        await Stack("shop", layers, clock, deadline_s=1).call(Work(), idempotent=True)
        assert passed == [Place.SHED, Place.RETRY, Place.BREAKER, Place.TRY]
        with pytest.raises(ValueError, match="two policies in one place"):
            Stack("shop", [*layers, layers[0]], clock, deadline_s=1)

    simulate(story)


def test_what_a_process_shows_names_every_policy_and_what_changed():
    async def story(clock: LoopClock) -> None:
        every = reliability(clock, dependencies={"adapter": {"breaker": {"min_calls": 1}, "calls": {"tries": 1}}})
        every.show("gates", lambda: {"name": "tables", "width": 7})
        with pytest.raises(OSError, match="down"):
            await every.dependency("adapter", lambda _: FAILED).stack.call(Work(OSError("down")), idempotent=True)
        shown = every.as_json()
        assert shown["process"] == "worker"
        assert shown["breakers"][0]["state"] == "open"  # type: ignore[index]  # JSON
        assert shown["changes"][0]["reason"] == "1 of 1 calls failed, 0 were slow"  # type: ignore[index]  # JSON
        assert shown["gates"] == [{"name": "tables", "width": 7}]
        assert every.dependency("adapter").breaker.rules.min_calls == 1
        assert every.dependency("other").breaker.rules.min_calls == 20

    simulate(story)


def test_operators_modes_hold_until_they_are_taken_back():
    async def story(clock: LoopClock) -> None:
        every = reliability(clock)
        breaker = every.dependency("shop").breaker
        every.override({"shop": Mode.FORCED_OPEN})
        assert breaker.as_json()["state"] == "forced_open"
        every.override({})
        assert breaker.as_json()["state"] == "closed"

    simulate(story)


def test_metrics_are_what_the_policies_counted():
    async def story(clock: LoopClock) -> None:
        metrics = Metrics()
        every = Reliability(Settings.model_validate({"breaker": {"min_calls": 2}}), "worker", clock, metrics)
        stack = every.dependency("shop").stack
        await stack.call(Work(), idempotent=True)
        with pytest.raises(BreakerOpen):
            await stack.call(Work(OSError(), OSError(), OSError()), idempotent=True)
        text = generate_latest(metrics.registry).decode()
        for line in (
            'headrace_breaker_calls_total{name="shop",outcome="success"} 1.0',
            'headrace_breaker_calls_total{name="shop",outcome="failure"} 1.0',
            'headrace_breaker_calls_total{name="shop",outcome="not_permitted"} 1.0',
            'headrace_breaker_state{name="shop",state="open"} 1.0',
            'headrace_breaker_transitions_total{name="shop",to="open"} 1.0',
            'headrace_retries_total{name="shop",outcome="scheduled"} 1.0',
            'headrace_retry_budget_tokens{name="shop"} 486.0',
            'headrace_bulkhead_busy_calls{name="shop"} 0.0',
        ):
            assert line in text, text

    simulate(story)


@pytest.mark.parametrize("groups", [{}, {"breaker": {"mode": "disabled"}}], ids=["all policies", "retries alone"])
def test_an_outage_gets_at_most_a_tenth_more_attempts_than_there_are_callers_and_is_over_when_it_is_over(
    groups: dict[str, object],
):
    """A hundred callers a second for 40 s; the dependency is down from second 5 to 25."""
    attempts = [0] * 40
    served = [0] * 40

    async def story(clock: LoopClock) -> None:
        stack = shop(clock, **groups).stack

        async def work(_attempt: Try) -> None:
            second = int(clock.monotonic_s())
            attempts[min(second, 39)] += 1
            await asyncio.sleep(0.02)
            if 5 <= second < 25:
                raise ConnectionResetError

        async def caller(second: int) -> None:
            with suppress(ConnectionResetError, BreakerOpen):
                await stack.call(work, idempotent=True)
                served[second] += 1

        async with asyncio.TaskGroup() as group:
            for number in range(4000):
                group.create_task(caller(number // 100))
                await asyncio.sleep(0.01)

    simulate(story)
    assert sum(attempts[5:25]) <= 1.1 * 2000
    assert served[:4] == [100] * 4
    assert served[31:39] == [100] * 8
