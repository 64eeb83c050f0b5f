"""Everything but streams, on aiohttp: the session, tables, probes, the page.

Every response closes its connection. `gateway.front` reads only the first request of a connection; were it kept
alive, a browser would send its next request, the stream, down the same one. What that costs (a connection per
request, five for the page) is small beside a page that stays open for hours.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from contracts.errors import RateLimited, Shed
from gateway import control
from gateway.pages import SECURITY, add_pages
from gateway.problem import Problem, overloaded
from gateway.tables import ROOT
from reliability.call import Priority
from runtime.http import BODY_BYTES, REFUSALS, add_probes, body_of, refusal

if TYPE_CHECKING:
    from gateway.auth import Caller, Doorkeeper
    from gateway.control import Control
    from gateway.load import Load
    from gateway.tables import Tables
    from runtime.clock import Clock
    from runtime.health import Health
    from runtime.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """The handlers and what they need."""

    def __init__(self, doorkeeper: Doorkeeper, tables: Tables, control: Control, load: Load, clock: Clock) -> None:
        self._doorkeeper = doorkeeper
        self._tables = tables
        self._control = control
        self._load = load
        self._clock = clock

    def application(self, health: Health, metrics: Metrics) -> web.Application:
        """The aiohttp application with all routes."""
        app = web.Application(middlewares=[_finished, _problems], client_max_size=BODY_BYTES)
        add_probes(app, health, metrics)
        add_pages(app)
        app.router.add_get("/v1/session", self.who)
        app.router.add_post("/v1/session", self.sign_in)
        app.router.add_delete("/v1/session", self.sign_out)
        app.router.add_get(ROOT + "{path:.*}", self.tables)
        for method in ("GET", "POST"):
            app.router.add_route(method, control.ROOT + "{path:.*}", self.control)
        return app

    async def who(self, request: web.Request) -> web.Response:
        """GET /v1/session: whose token this is."""
        caller = self._doorkeeper.admit(_headers(request))
        await self._load.request(caller.claims.tenant_id, "session")
        return web.json_response(_described(caller), headers=_NO_STORE)

    async def sign_in(self, request: web.Request) -> web.Response:
        """POST /v1/session {"token"}: keep a valid token as this browser's cookie until it expires."""
        headers = _headers(request)
        self._doorkeeper.check_origin(headers)
        token = await _token(request)
        caller = self._doorkeeper.admit({"authorization": f"Bearer {token}"})
        await self._load.request(caller.claims.tenant_id, "session")
        lifetime_s = max(1, int(caller.claims.expires_s - self._clock.wall_s()))
        cookie = self._doorkeeper.set_cookie(token, lifetime_s)
        return web.json_response(_described(caller), headers={**_NO_STORE, "Set-Cookie": cookie})

    async def sign_out(self, request: web.Request) -> web.Response:
        """DELETE /v1/session: forget the cookie."""
        self._doorkeeper.check_origin(_headers(request))
        return web.Response(status=204, headers={**_NO_STORE, "Set-Cookie": self._doorkeeper.set_cookie("", 0)})

    async def tables(self, request: web.Request) -> web.Response:
        """GET /v1/tables/…: what a worker answers at /tables/…, for the caller's tenant."""
        caller = self._doorkeeper.admit(_headers(request))
        await self._load.request(caller.claims.tenant_id, "tables")
        url = request.rel_url
        accept = request.headers.get("Accept", "*/*")
        async with self._load.tables.admitted(Priority.LOW) as place:
            answer = await self._tables.ask(caller, url.raw_path, url.raw_query_string, accept)
            if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
                place.overloaded()
        return web.Response(status=answer.status, body=answer.body, headers={**_NO_STORE, **answer.headers})

    async def control(self, request: web.Request) -> web.StreamResponse:
        """/v1/control/…: what the control process answers an operator."""
        headers = _headers(request)
        if request.method != "GET":
            self._doorkeeper.check_origin(headers)
        caller = self._doorkeeper.admit(headers)
        # In a flood that has used up what all may ask, operators are who can end it.
        if not caller.claims.operator:
            await self._load.request(caller.claims.tenant_id, "control")
        return await self._control.hand_on(caller, request)


_NO_STORE = {"Cache-Control": "no-store"}


async def _token(request: web.Request) -> str:
    """The token in a sign-in's body. Raises Problem 400, 408 or 413."""
    # A form of another site cannot send this type without asking first (CORS).
    if request.content_type != "application/json":
        raise Problem(415, 'send JSON: {"token": …}')
    try:
        body = json.loads(await body_of(request))
    except ValueError:
        raise Problem(400, "the body is not JSON") from None
    token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str):
        raise Problem(400, "the body has no text member 'token'")
    return token.strip()


def _described(caller: Caller) -> dict[str, object]:
    claims = caller.claims
    return {"tenant_id": claims.tenant_id, "channels": claims.channels, "expires_s": claims.expires_s} | (
        {"operator": True, "subject": claims.subject} if claims.operator else {}
    )


def _headers(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer refusals as problem+json, aiohttp's own (404, 405, 413) included."""
    try:
        return await handler(request)
    except (RateLimited, Shed) as error:
        return refusal(request, overloaded(error))
    except REFUSALS as error:
        return refusal(request, error)


@web.middleware
async def _finished(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)  # a table's page has a policy of its own
    response.force_close()
    return response
