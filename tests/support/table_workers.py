"""Workers that only answer about tables: the views over stores that a test fills, each on a port of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from runtime.clock import SystemClock
from runtime.settings import AuthSettings
from runtime.tokens import mint
from streams.kafka_log import partition_for
from tables.fold import TableKind
from tables.peers import Peers
from tables.routing import Router, Served
from tables.rows import Subject
from tables.shares import Line
from tables.views import TableViews
from tests.support.gateway import free_port
from tests.support.tables import ALL, Local

AUTH = AuthSettings(secret=SecretStr("only-for-tests-" + "0" * 32))
CLOCK = SystemClock()
RETENTION_MS = 3_600_000

Compare = Callable[[Mapping[Subject, Any]], Sequence[Line]]


@dataclass
class Placed:
    """Where partitions are: what a group's assignment says, also when it is no longer true."""

    partitions: int
    mine: str = ""
    by_partition: dict[int, str] = field(default_factory=dict)

    def partition_of(self, key: bytes) -> int:
        return partition_for(key, self.partitions)

    def owners(self, table: Served) -> Mapping[int, str]:
        del table
        return self.by_partition


@dataclass
class Worker:
    """One of them."""

    url: str
    local: Local
    placed: Placed
    runner: web.AppRunner
    asked: list[str] = field(default_factory=list)
    """Headers Headrace-Partitions of the requests that came; "" for people's."""

    async def stop(self) -> None:
        """Close its port: from now on nobody answers here."""
        await self.runner.cleanup()


@asynccontextmanager
async def workers(
    kind: TableKind[Any],
    owned: list[set[int]],
    *,
    timeout_s: float = 2.0,
    compare: Compare | None = None,
    lateness_ms: int = 0,
) -> AsyncIterator[list[Worker]]:
    """A worker for each set of partitions; together they have all."""
    partitions = sum(map(len, owned))
    started = []
    for numbers in owned:
        local = Local(kind, active=frozenset(numbers))
        served = Served(kind, local, RETENTION_MS, compare, lateness_ms=lateness_ms)
        started.append(await _worker(served, local, partitions, timeout_s))
    by_partition = {number: worker.url for worker in started for number in worker.local.active}
    for worker in started:
        worker.placed.by_partition = by_partition
    try:
        yield started
    finally:
        for worker in started:
            await worker.stop()


async def _worker(served: Served, local: Local, partitions: int, timeout_s: float) -> Worker:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    placed = Placed(partitions, url)
    asked: list[str] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's handler
        asked.append(request.headers.get("Headrace-Partitions", ""))
        answer: web.StreamResponse = await handler(request)
        return answer

    app = web.Application(middlewares=[note])
    views = TableViews({served.kind.name: served}, Router(placed, Peers(timeout_s)), AUTH, CLOCK)
    views.add_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return Worker(url, local, placed, runner, asked)


def bearer(tenant: str = "acme", channels: tuple[str, ...] = ALL) -> dict[str, str]:
    """The header of a valid token."""
    token = mint(AUTH, CLOCK, tenant_id=tenant, channels=channels, subject="test", lifetime_s=600)
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Got:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any

    @property
    def text(self) -> str:
        """The body of a text."""
        return self.body.decode()


async def get(url: str, headers: Mapping[str, str] | None = None) -> Got:
    """GET, with a valid token unless other headers are given."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(url, headers=bearer() if headers is None else headers, allow_redirects=False) as response,
    ):
        body = await response.read()
        json = await response.json(content_type=None) if "json" in response.content_type else None
        return Got(response.status, response.headers, body, json)
