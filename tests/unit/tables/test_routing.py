"""Who may read when, and from when on windows are whole."""

from __future__ import annotations

import asyncio

from contracts.names import TenantId
from tables.peers import Peers
from tables.query import parse
from tables.routing import MAX_READINGS, Router, Served
from tests.support.aio import run
from tests.support.table_workers import Placed
from tests.support.tables import ALL, BASE_MS, T0, Local, between, latency_kind

KIND = latency_kind()


def test_the_heaviest_questions_of_one_tenant_keep_nobody_else_waiting():
    local = Local(KIND)
    served, router = Served(KIND, local, 0), Router(Placed(1), Peers(1.0))
    long, short = between(T0, T0 + 30_000 * BASE_MS), between(T0, T0 + BASE_MS)

    def asked(tenant: str, times: dict[str, str]) -> asyncio.Task[object]:
        query = parse(KIND, times, tenant_id=TenantId(tenant), channels=ALL, now_ms=T0)
        return asyncio.create_task(router.read_here(served, query, {0}))

    async def scenario() -> None:
        heavy = [asked("greedy", long) for _ in range(2 * MAX_READINGS)]
        await asyncio.sleep(0)
        await asked("modest", short)
        assert not any(task.done() for task in heavy)
        for task in heavy:
            task.cancel()
        await asyncio.gather(*heavy, return_exceptions=True)

    run(scenario())


def test_windows_of_a_tenant_whose_clock_is_ahead_expire_so_much_earlier():
    assert Served(KIND, Local(KIND), 3_600_000, ahead_ms=60_000).kept_from_ms(T0) == T0 - 3_540_000
    assert Served(KIND, Local(KIND), 0, ahead_ms=60_000).kept_from_ms(T0) == 0
