"""What every process that serves HTTP has in common: probes, and how requests are refused.

/metrics, /healthz and /readyz stand alone in processes that serve nothing else (relay, mirror).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from contracts.errors import HeadraceError
from runtime import problem
from runtime.metrics import CONTENT_TYPE
from runtime.problem import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.health import Health
    from runtime.metrics import Metrics


# The longest body that is taken, at the gateway as behind it: an order that names 1,000 letters has some 20 KB.
BODY_BYTES = 65_536
BODY_DEADLINE_S = 5.0


def add_probes(app: web.Application, health: Health, metrics: Metrics) -> None:
    """Route GET /metrics, /healthz (503 when not alive) and /readyz (503 when not ready) on `app`."""

    async def render(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def live(_request: web.Request) -> web.Response:
        return web.json_response(health.as_json(), status=200 if health.live else 503)

    async def ready(_request: web.Request) -> web.Response:
        return web.json_response(health.as_json(), status=200 if health.ready else 503)

    app.router.add_get("/metrics", render)
    app.router.add_get("/healthz", live)
    app.router.add_get("/readyz", ready)


async def body_of(request: web.Request) -> bytes:
    """A request's body. Raises Problem 408 when it is not there within BODY_DEADLINE_S; aiohttp's 413 when too long."""
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            return await request.read()
    except TimeoutError:
        raise Problem(408, "the body took too long") from None


# What `refusal` answers.
REFUSALS = (Problem, HeadraceError, web.HTTPException)


def refusal(request: web.Request, error: Problem | HeadraceError | web.HTTPException) -> web.Response:
    """A refused request's answer as problem+json, aiohttp's own (404, 405, 413) included."""
    if isinstance(error, HeadraceError):
        error = Problem(503, str(error), headers={"Retry-After": "5"})
    elif isinstance(error, web.HTTPException):
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        error = Problem(error.status, f"{request.method} {request.path}: {error.reason}", headers=allow)
    headers = {"Cache-Control": "no-store", **error.headers, "Content-Type": problem.CONTENT_TYPE}
    return web.Response(status=error.status, body=error.body(), headers=headers)


@asynccontextmanager
async def serve_probes(host: str, port: int, health: Health, metrics: Metrics) -> AsyncIterator[None]:
    """Serve the probes on host:port while the body runs; port 0 serves nothing."""
    if port == 0:
        yield
        return
    app = web.Application()
    add_probes(app, health, metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
