"""Events to tasks of a real Celery worker, of each of its pools, with a real broker that also hangs or is away."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agents.effect import Dead, Done, Outcome, RetryLater, Try
from agents.task_bridge import DEPENDENCY, TasksByEvent, classify
from reliability.pools.metrics import PoolMetrics
from reliability.registry import Reliability
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.settings_adapter import TaskSettings
from streams.record_chunk import SourceRecord
from tests.support.aio import run
from tests.support.celery_shop import CeleryShop

TENANT = "11111111-1111-4111-8111-111111111111"
POOLS = ["prefork", "gevent", "threads", "solo"]


class Shop:
    """What one test tells, and what its tasks were given; workers and results are shared, so ids are its own."""

    def __init__(self, celery: CeleryShop) -> None:
        self.celery, self.run = celery, secrets.token_hex(2)

    def event_id(self, number: int) -> str:
        return f"{self.celery.prefix}-{self.run}-{number}"

    def order_id(self, number: int) -> str:
        return f"33333333-{self.run}-4333-8333-{number:012d}"

    def order(self, number: int) -> SourceRecord:
        event = {
            "event": "order_status",
            "version": "1.0",
            "tenant_id": TENANT,
            "order_id": self.order_id(number),
            "status": "created",
            "ts": "2026-01-01T00:00:00Z",
        }
        headers = [("ce_id", self.event_id(number).encode())]
        return SourceRecord("p.orders", 0, number, 1, b"k", json.dumps(event).encode(), headers)

    async def tell(self, bridge: TasksByEvent, number: int) -> Outcome:
        """What becomes of an order's event."""
        return await bridge.run(self.order(number), Try(1, 0))

    def notes(self) -> list[str]:
        return [note for note in self.celery.notes() if f"-{self.run}-" in note]


@pytest.fixture(scope="module")
def at(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Shop]]:
    """A shop whose worker has one of Celery's pools; it is started once, and works for all tests of this file."""
    working: dict[str, CeleryShop] = {}
    with ExitStack() as stack:

        def shop(pool: str) -> Shop:
            if pool not in working:
                celery = CeleryShop(redis_url, f"t{secrets.token_hex(5)}")
                stack.enter_context(celery.worker(pool, tmp_path_factory.mktemp(pool) / "celery.log"))
                working[pool] = celery
            return Shop(working[pool])

        yield shop


def bridged(
    shop: Shop,
    task: str,
    body: Callable[[TasksByEvent], Awaitable[None]],
    calls: dict[str, Any] | None = None,
    **tasks: object,
) -> None:
    """Run the body with a bridge from order events to this task."""

    async def main() -> None:
        settings = Settings.model_validate({"dependencies": {DEPENDENCY: {"calls": calls or {}}}})
        chosen = TaskSettings.model_validate(
            {
                "broker_url": shop.celery.url,
                "result_url": shop.celery.url,
                "queue": shop.celery.prefix,
                "routes": {"order_status": task},
                "wait_s": 20,
                "poll_s": 0.05,
                "pool": {"children": 1},  # each takes a second to import Celery
                **tasks,
            }
        )
        metrics, clock = Metrics(), SystemClock()
        policies = Reliability(settings, "test", clock, metrics).dependency(DEPENDENCY, classify)
        bridge = TasksByEvent(chosen, "strict", policies.stack, PoolMetrics(metrics), clock)
        try:
            await body(bridge)
        finally:
            await bridge.close()

    try:
        run(main(), timeout_s=90)
    except BaseException:
        shop.celery.show_log()
        raise


@pytest.mark.parametrize("pool", POOLS)
def test_every_event_runs_its_task_and_counts_when_that_has_succeeded(pool: str, at: Callable[[str], Shop]):
    shop = at(pool)

    async def body(bridge: TasksByEvent) -> None:
        outcomes = await asyncio.gather(*(shop.tell(bridge, number) for number in range(8)))
        assert outcomes == [Done()] * 8
        assert sorted(shop.notes()) == [f"changed {shop.order_id(number)}" for number in range(8)]
        assert [await shop.tell(bridge, number) for number in range(8)] == [Done()] * 8
        assert len(shop.notes()) == 8, "a repeat of an event finds the result of the first run"
        assert not shop.celery.listeners(), "what Redis answers to these is read by nobody, and piles up there"

    bridged(shop, "shop.changed", body, pool={"children": 2})


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_task_that_fails_after_all_of_celerys_retries_is_dead_with_its_error(pool: str, at: Callable[[str], Shop]):
    shop = at(pool)

    async def body(bridge: TasksByEvent) -> None:
        for times in (1, 2):  # the second is a requeue of the dead letter
            outcome = await shop.tell(bridge, 1)
            assert isinstance(outcome, Dead)
            assert outcome.reason.error_class == "ValueError"
            assert f"shop.fails [{shop.event_id(1)}] is FAILURE: ValueError: no such article" in outcome.reason.text
            assert "Traceback" in outcome.reason.text
            assert shop.notes() == [f"fails {shop.order_id(1)}"] * times

    async def again(bridge: TasksByEvent) -> None:
        assert await shop.tell(bridge, 2) == Done()
        assert shop.notes()[2:] == [f"fails_once {shop.order_id(2)}"] * 2

    bridged(shop, "shop.fails", body)
    bridged(shop, "shop.fails_once", again)


def test_a_task_that_ignores_its_result_and_one_that_nobody_knows_are_told_apart(at: Callable[[str], Shop]):
    shop = at("solo")

    async def silent(bridge: TasksByEvent) -> None:
        assert await shop.tell(bridge, 1) == Done()
        assert shop.notes() == [f"silent {shop.order_id(1)}"]

    async def unknown(bridge: TasksByEvent) -> None:
        outcome = await shop.tell(bridge, 2)
        assert isinstance(outcome, Dead)
        assert outcome.reason.error_class == "NotRegistered"

    bridged(shop, "shop.silent", silent)
    bridged(shop, "shop.no_such_task", unknown)


def test_a_task_whose_process_is_killed_runs_again_and_its_event_counts_once_it_has_succeeded(
    at: Callable[[str], Shop],
):
    shop = at("prefork")

    async def body(bridge: TasksByEvent) -> None:
        assert await shop.tell(bridge, 1) == Done()
        assert shop.notes() == [f"dies_once {shop.order_id(1)}"] * 2

    bridged(shop, "shop.dies_once", body)


def test_a_task_that_takes_long_is_asked_about_again_and_not_sent_again(at: Callable[[str], Shop]):
    shop = at("threads")

    async def body(bridge: TasksByEvent) -> None:
        outcome = await shop.tell(bridge, 1)
        while not isinstance(outcome, Done):
            assert isinstance(outcome, RetryLater)
            assert outcome.reason.error_class == "TaskUnfinished"
            if "STARTED" in outcome.reason.text or "HALF_WAY" in outcome.reason.text:
                assert not outcome.spends
            outcome = await shop.tell(bridge, 1)
        assert shop.notes() == [f"slow {shop.order_id(1)}"]

    bridged(shop, "shop.slow", body, wait_s=0.3)


def test_without_a_store_of_results_an_event_counts_when_the_broker_has_its_task(at: Callable[[str], Shop]):
    shop = at("solo")

    async def body(bridge: TasksByEvent) -> None:
        # The worker runs one at a time, for a second: they cannot both be through when the broker has them.
        assert await asyncio.gather(*(shop.tell(bridge, number) for number in range(2))) == [Done()] * 2
        assert len(shop.notes()) < 2

    bridged(shop, "shop.slow", body, result_url="")
    deadline = time.monotonic() + 30
    while len(shop.notes()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_events_without_a_route_and_what_is_no_event_send_nothing():
    shop = Shop(CeleryShop("redis://127.0.0.1:1/0", "t"))

    async def body(bridge: TasksByEvent) -> None:
        assert await shop.tell(bridge, 1) == Done()
        broken = await bridge.run(shop.order(1)._replace(value=b"{"), Try(1, 0))
        assert isinstance(broken, Dead)

    bridged(shop, "unused", body, routes={"tool_call": "shop.changed"})


QUICK = {"base_s": 0.01, "cap_s": 0.02, "try_timeout_s": 2, "deadline_s": 5}


def test_children_that_do_not_start_are_waited_for_once_by_all_events_and_cost_no_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shop = Shop(CeleryShop("redis://127.0.0.1:1/0", "t"))
    stuck, started = tmp_path / "python", tmp_path / "started"
    stuck.write_text(f"#!/bin/sh\necho once >> {started}\nexec sleep 600\n")
    stuck.chmod(0o755)

    async def body(bridge: TasksByEvent) -> None:
        for starts in (1, 2):
            for outcome in await asyncio.gather(*(shop.tell(bridge, number) for number in range(5))):
                assert isinstance(outcome, RetryLater)
                assert (outcome.reason.error_class, outcome.spends) == ("PoolUnready", False)
            assert started.read_text() == "once\n" * starts

    monkeypatch.setattr(sys, "executable", str(stuck))
    bridged(shop, "shop.changed", body, pool={"children": 1, "start_timeout_s": 1})


@pytest.mark.parametrize("result_url", ["redis://127.0.0.1:1/0", ""])
def test_a_broker_that_is_away_costs_no_try(result_url: str):
    shop = Shop(CeleryShop("redis://127.0.0.1:1/0", "t"))

    async def body(bridge: TasksByEvent) -> None:
        outcome = await shop.tell(bridge, 1)
        assert isinstance(outcome, RetryLater)
        assert (outcome.reason.error_class, outcome.spends) == ("EndpointUnreachable", False)

    bridged(shop, "shop.changed", body, calls=QUICK, result_url=result_url)


@pytest.mark.parametrize("has_results", [True, False])
def test_a_broker_that_hangs_holds_nobody_up_and_costs_no_try(frozen: Shop, *, has_results: bool):
    async def body(bridge: TasksByEvent) -> None:
        began_s = time.monotonic()
        outcome = await frozen.tell(bridge, 1)
        assert isinstance(outcome, RetryLater)
        assert (outcome.reason.error_class, outcome.spends) == ("EndpointUnreachable", False)
        assert time.monotonic() - began_s < 15

    result_url = frozen.celery.url if has_results else ""
    bridged(frozen, "shop.changed", body, calls=QUICK, broker_timeout_s=0.3, result_url=result_url)


@pytest.fixture
def frozen() -> Iterator[Shop]:
    """A broker that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Shop(CeleryShop(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", "t"))
