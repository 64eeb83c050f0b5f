"""Two workers that tell a failing shop of orders: one joins, one is frozen and wakes up, one stops; order is kept."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.crash.test_adapter_crash import (
    ORDERS,
    STATUSES,
    fail_now_and_then,
    in_order,
    key_of,
    letters,
    planned,
    prepare,
    produce,
    settings_for,
    until_told,
)
from tests.support.aio import run
from tests.support.engine_fleet import SESSION_S, Worker, engine_settings, fleet
from tests.support.failing_shop import FailingShop, failing_shop

pytestmark = pytest.mark.timeout(240)


async def moved_about(workers: list[Worker]) -> None:
    """Partitions move: to a second worker, away from a frozen one, back to it, and away from one that stops."""
    first, second = workers
    second.start()
    await second.ready()
    await asyncio.sleep(1)
    first.signal(signal.SIGSTOP)
    await asyncio.sleep(2 * SESSION_S)
    first.signal(signal.SIGCONT)
    await asyncio.sleep(2)
    assert await second.stop() == 0


async def all_told(shop: FailingShop, settings: Settings) -> None:
    await until_told(shop, settings, ORDERS * len(STATUSES))
    refused = {key_of(number, status) for number in range(3, ORDERS, 20) for status in STATUSES}
    assert {row["error_class"] for row in await letters(settings)} == {"EventRefused"}
    assert set(shop.taken) == {key_of(n, status) for n in range(ORDERS) for status in STATUSES} - refused
    assert in_order(shop)


def test_while_partitions_move_between_workers_each_order_is_told_in_order(settings: Settings, tmp_path: Path):
    async def main() -> None:
        async with failing_shop() as shop:
            shop.always = fail_now_and_then
            chosen = engine_settings(settings_for(settings, shop.url))
            await prepare(chosen)
            async with fleet(chosen, tmp_path, 2) as workers:
                workers[0].start()
                await workers[0].ready()
                producing = asyncio.create_task(produce(chosen, planned(), pause_s=0.08))
                await moved_about(workers)
                await producing
                await all_told(shop, chosen)

    run(main(), timeout_s=220)
