"""The bar of dead letters: 1,000 failures of five classes; once their causes are gone, requeuing recovers them all.

All processes are real, on the session's servers. Two hundred failures of each class:

    loose at the relay     orders that its strict mode refuses           gone when it runs in compat mode
    loose at a consumer    the same at the workers, past a relay that lets them through
    far ahead              tool calls dated beyond worker.future_skew_s  gone when that is wider
    busy                   orders that the shop answers with 503         gone when it is back
    refused                orders that the shop answers with 422         gone when it knows the product

A loose order fails twice, at the agent of orders and at the adapter: 1,200 letters in all. Each has its effect once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from contracts.names import Topic, kafka_topic
from runtime.settings import Settings
from streams import letter_moves, topics
from streams.kafka_log import Cluster
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from tests.support import failing_shop as shop_does
from tests.support.aio import run
from tests.support.control import ask
from tests.support.engine_truth import connected, records_of
from tests.support.failing_shop import FailingShop, failing_shop
from tests.support.gateway import free_port, token
from tests.support.processes import WORKER, process, until_ready

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

EACH = 200
TENANT = str(UUID(int=0x11111111111141118111111111111111))
INSERT = """
INSERT INTO outbox (aggregate_id, aggregate_type, event_type, payload)
SELECT id, $1, $2, payload::json FROM unnest($3::text[], $4::text[]) AS made(id, payload)"""
STATES = "SELECT source, error_class, state, count(*) AS n FROM headrace.dead_letter GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
WAIT_S = 120.0


def order(number: int, *, loose: bool) -> dict[str, Any]:
    """An order event; a loose one names its order by a number, as deployed shops do."""
    order_id = str(number) if loose else str(UUID(int=(4 << 76) | (8 << 60) | number))
    return {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": TENANT,
        "order_id": order_id,
        "status": "created",
        "ts": "2026-01-02T03:04:05Z",
    }


def call(number: int, at: datetime) -> dict[str, Any]:
    """A tool call at a time."""
    ts = at.isoformat().replace("+00:00", "Z")
    return {
        "event": "tool_call",
        "version": "1.0",
        "tool": f"t{number % 4}",
        "args": {},
        "latency_ms": 5.0,
        "ts": ts,
        "tenant_id": TENANT,
    }


class Bench:
    """The processes of one test, and what it asks of the database."""

    def __init__(self, settings: Settings, folder: Path, shop: FailingShop, connection: asyncpg.Connection) -> None:
        self.shop = shop
        self.connection = connection
        self.ports = {name: free_port() for name in ("relay", "mirror", "control", "worker")}
        self._given = settings.model_dump(exclude_unset=True)
        self._folder = folder

    def settings(self, mode: str, skew_s: float) -> Settings:
        """Without retries within the worker: what fails is a dead letter at once."""
        own: dict[str, Any] = {
            "contracts": {"mode": mode},
            "adapter": {"url": self.shop.url, "retries": {"tries": 1, "retry_per_s": 1000.0}},
            "dependencies": {"adapter": {"breaker": {"mode": "disabled"}, "calls": {"tries": 1}}},
            "control": {"requeue_rules": {}},
        }
        for name in ("relay", "mirror", "control"):
            own[name] = own.get(name, {}) | {"port": self.ports[name]}
        own["worker"] = self._given["worker"] | {"port": self.ports["worker"], "future_skew_s": skew_s}
        return Settings.model_validate(self._given | own)

    @asynccontextmanager
    async def running(self, *names: str, mode: str, skew_s: float = 60.0) -> AsyncIterator[None]:
        """These processes while the body runs, ready."""
        async with AsyncExitStack() as stack:
            for name in names:
                arguments = WORKER if name == "worker" else ("-m", "headrace", name)
                log = self._folder / f"{name}-{mode}.log"
                stack.enter_context(process(arguments, self.settings(mode, skew_s), log))
            for name in names:
                await asyncio.to_thread(until_ready, f"http://127.0.0.1:{self.ports[name]}/readyz", WAIT_S)
            yield

    async def commit(self, kind: str, event_type: str, events: list[dict[str, Any]]) -> None:
        """Rows of the outbox, one transaction."""
        ids = [str(event.get("order_id", event.get("tool"))) for event in events]
        await self.connection.execute(INSERT, kind, event_type, ids, [json.dumps(event) for event in events])

    async def until(self, count: int, state: str = "dead") -> None:
        """Wait until so many letters are in a state."""
        found = 0
        async with asyncio.timeout(WAIT_S):
            while found < count:
                query = "SELECT count(*) FROM headrace.dead_letter WHERE state = $1"
                found = await self.connection.fetchval(query, state)
                await asyncio.sleep(0.2)
        assert found == count

    async def calls_in_the_table(self) -> int:
        """Calls in all windows around those that lay ahead."""
        now = datetime.now(UTC)
        begin, end = ((now + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ") for minutes in (0, 120))
        url = f"http://127.0.0.1:{self.ports['worker']}/tables/tool_latency/?from={begin}&to={end}"
        bearer = token(self.settings("compat", 60.0), TENANT)
        answer = (await ask(url, headers={"Authorization": f"Bearer {bearer}"})).json
        assert not answer["partial"]
        return sum(row["count"] for row in answer["rows"])

    async def standing(self) -> dict[tuple[str, str, str], int]:
        return {(r["source"], r["error_class"], r["state"]): r["n"] for r in await self.connection.fetch(STATES)}


async def broken(bench: Bench) -> None:
    """All five causes, one after the other."""
    async with bench.running("relay", mode="strict"):
        await bench.commit("order", "order_status", [order(n, loose=True) for n in range(EACH)])
        await bench.until(EACH)
    async with bench.running("relay", mode="compat"), bench.running("mirror", "worker", mode="strict"):
        await bench.commit("order", "order_status", [order(n, loose=True) for n in range(EACH, 2 * EACH)])
        await bench.until(3 * EACH)
        ahead = datetime.now(UTC) + timedelta(hours=1)
        await bench.commit("tool", "tool_call", [call(n, ahead) for n in range(EACH)])
        await bench.until(4 * EACH)
        for kind, status in enumerate((503, 422)):
            bench.shop.always = shop_does.status(status)
            first = (2 + kind) * EACH
            await bench.commit("order", "order_status", [order(n, loose=False) for n in range(first, first + EACH)])
            await bench.until((5 + kind) * EACH)


async def pushed_orders(settings: Settings) -> Counter[str]:
    """How often each order was pushed, by its id."""
    async with connected(settings) as cluster:
        records = await records_of(cluster, kafka_topic(settings.prefix, Topic.PUSH))
    messages = [json.loads(record.value or b"") for record in records]
    return Counter(one["data"]["order_id"] for one in messages if one["type"] == "order_status")


def test_a_thousand_failures_of_five_classes_are_recovered_once_their_causes_are_gone(
    settings: Settings, tmp_path: Path
):
    async def main() -> None:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await topics.ensure(cluster, settings)
        await cluster.stop()
        connection = await asyncpg.connect(settings.postgres.url)
        async with failing_shop() as shop:
            bench = Bench(settings, tmp_path, shop, connection)
            await broken(bench)
            before = await bench.standing()
            print(f"\nbefore: {before}")
            assert sum(before.values()) == 6 * EACH
            shop.always, shop.told[:] = shop_does.status(200), []
            began_s = asyncio.get_running_loop().time()
            async with bench.running("relay", "mirror", "worker", "control", mode="compat", skew_s=86_400):
                asked = await letter_moves.requeue(
                    connection, LetterFilter(), Order("ann", "all causes are gone", 10_000), rate_per_s=1000
                )
                assert asked is not None
                assert asked.letters == 6 * EACH
                await bench.until(6 * EACH, "recovered")
                took_s = asyncio.get_running_loop().time() - began_s
                # What the relay published again has its way still before it.
                expected = {order(n, loose=n < 2 * EACH)["order_id"] for n in range(4 * EACH)}
                async with asyncio.timeout(WAIT_S):
                    while len(shop.repeats) < 4 * EACH or len(await pushed_orders(settings)) < 4 * EACH:  # noqa: ASYNC110
                        await asyncio.sleep(0.2)
                calls = await bench.calls_in_the_table()
            after = await bench.standing()
            print(f"recovered: {after}, {took_s:.1f} s with the start of all processes")
            assert after == {(source, reason, "recovered"): n for (source, reason, _dead), n in before.items()}
            assert calls == EACH
            assert {key for key, count in shop.repeats.items() if count > 1} == set()
            assert await pushed_orders(settings) == Counter(expected)
        await connection.close()

    run(main(), 400)
