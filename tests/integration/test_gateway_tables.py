"""Tables through the gateway: real workers' views behind it, asked over HTTP."""

from __future__ import annotations

import socket

import pytest

from contracts.names import TenantId
from gateway.auth import Caller
from gateway.problem import Problem
from gateway.tables import Tables
from runtime.settings import GatewaySettings
from runtime.tokens import TokenClaims
from tables.recovery import Progress
from tests.support.aio import run
from tests.support.table_workers import bearer, workers
from tests.support.tables import latency_kind

KIND = latency_kind()
PATH = "/v1/tables/tool_latency/"
# What a proxy on the way may decode before it makes the path shorter.
ENCODED = ("/v1/tables/%2e%2E/metrics", "/v1/tables/..%2fmetrics", "/v1/tables/a%2f..%5c../x")


def caller(tenant: str = "acme") -> Caller:
    token = bearer(tenant)["Authorization"].removeprefix("Bearer ")
    return Caller(TokenClaims(TenantId(tenant), (), "test", 0.0), token)


def nobody() -> str:
    """A URL where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_workers_answer_is_handed_on_with_its_status_and_headers():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            tables = Tables(GatewaySettings(worker_urls=(worker.url,)))
            page = await tables.ask(caller(), PATH, "size=1m", "text/html")
            assert page.status == 200
            assert page.headers["Content-Type"].startswith("text/html")
            assert "style-src 'sha256-" in page.headers["Content-Security-Policy"]
            bad = await tables.ask(caller(), PATH, "size=1x", "*/*")
            assert (bad.status, bad.headers["Content-Type"]) == (400, "application/problem+json")
            assert b'"field": "size"' in bad.body
            assert (await tables.ask(caller(), PATH + "a%2Fb/1", "", "*/*")).status == 200
            await tables.stop()

    run(scenario())


def test_the_next_worker_is_asked_when_one_is_gone_or_restoring():
    async def scenario() -> None:
        async with workers(KIND, [{0}, {1}]) as (restoring, whole):
            restoring.placed.by_partition = {}
            restoring.local.active = frozenset()
            whole.local.active = frozenset({0, 1})
            tables = Tables(GatewaySettings(worker_urls=(nobody(), restoring.url, whole.url)))
            for _ in range(4):
                assert (await tables.ask(caller(), PATH, "", "*/*")).status == 200
            await tables.stop()

    run(scenario())


def test_without_a_better_answer_the_restoring_workers_own_is_handed_on():
    async def scenario() -> None:
        async with workers(KIND, [{0}]) as (worker,):
            worker.local.active, worker.local.progress = frozenset(), Progress(1, 2)
            tables = Tables(GatewaySettings(worker_urls=(worker.url, nobody())))
            answer = await tables.ask(caller(), PATH, "", "*/*")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert b'"rows_to_replay": 2' in answer.body
            await tables.stop()

    run(scenario())


def test_no_worker_at_all_is_a_problem_that_names_the_setting():
    async def scenario() -> None:
        for urls in ((), (nobody(),)):
            tables = Tables(GatewaySettings(worker_urls=urls))
            with pytest.raises(Problem) as refused:
                await tables.ask(caller(), PATH, "", "*/*")
            assert refused.value.status == 503
            assert "gateway.worker_urls" in refused.value.detail
            await tables.stop()

    run(scenario())


def test_a_path_cannot_leave_the_tables():
    async def scenario() -> None:
        tables = Tables(GatewaySettings(worker_urls=(nobody(),)))
        for path in ("/v1/tables/../metrics", "/v1/tables/x/../../healthz", "/v1/tables/./", *ENCODED):
            with pytest.raises(Problem) as refused:
                await tables.ask(caller(), path, "", "*/*")
            assert refused.value.status == 404
        await tables.stop()

    run(scenario())
