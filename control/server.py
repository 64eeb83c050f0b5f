"""The HTTP application: probes for everybody, everything below /v1/control for operators only.

A part brings its routes; what its handlers raise becomes problem+json here. Who asks is verified before a handler runs,
and is found with `operator_of`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from contracts.errors import QueryError
from runtime.http import BODY_BYTES, REFUSALS, add_probes, refusal
from runtime.problem import Problem
from runtime.tokens import TokenClaims

if TYPE_CHECKING:
    from control.observed import ControlMetrics
    from control.operators import Operators
    from runtime.health import Health
    from runtime.metrics import Metrics

ROOT = "/v1/control"
_OPERATOR = web.RequestKey("operator", TokenClaims)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(
    operators: Operators, counted: ControlMetrics, health: Health, metrics: Metrics, routes: Iterable[web.RouteDef]
) -> web.Application:
    """The aiohttp application with probes and these routes."""

    @web.middleware
    async def operators_only(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == ROOT or request.path.startswith(f"{ROOT}/"):
            request[_OPERATOR] = operators.admit(request.headers.get("Authorization", ""))
            _check_body(request)
        return await handler(request)

    @web.middleware
    async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answer(request, handler)
        counted.requests.labels(request.method, str(response.status)).inc()
        return response

    app = web.Application(middlewares=[answered, operators_only], client_max_size=BODY_BYTES)
    add_probes(app, health, metrics)
    app.add_routes(routes)
    return app


def operator_of(request: web.Request) -> TokenClaims:
    """Who asks."""
    return request[_OPERATOR]


def _check_body(request: web.Request) -> None:
    """A form of another site cannot send this type without asking first."""
    if request.method not in ("GET", "HEAD") and request.content_type != "application/json":
        raise Problem(415, "send JSON, with Content-Type: application/json")


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except QueryError as error:
        told = {"field": error.field, "limit": error.limit, "value": error.value}
        return refusal(request, Problem(400, str(error), told))
    except REFUSALS as error:
        return refusal(request, error)
