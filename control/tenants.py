"""/v1/control/tenants: which tenants are held at the relay, and pausing and resuming one.

GET   /tenants                  those that are paused or have rows on hold
GET   /tenants/history          who paused and resumed whom
POST  /tenants/{id}/pause, /tenants/{id}/resume     {"why": "…"}; `changed` is false when it was so already
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from contracts.json_types import JsonObject
from control.bodies import WhyBody, parsed
from control.server import ROOT, operator_of
from runtime.http import body_of
from streams import postgres, tenants

if TYPE_CHECKING:
    from datetime import datetime

    from runtime.settings import PostgresSettings
    from streams.postgres import Pool

PATH = f"{ROOT}/tenants"
MOST_TENANTS = 500
MOST_MOVES = 200
_NO_STORE = {"Cache-Control": "no-store"}


class TenantApi:
    """The routes."""

    def __init__(self, settings: PostgresSettings, pool: Pool) -> None:
        self._settings = settings
        self._pool = pool

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get(PATH, self.show),
            web.get(f"{PATH}/history", self.history),
            web.post(f"{PATH}/{{tenant}}/pause", self.pause),
            web.post(f"{PATH}/{{tenant}}/resume", self.resume),
        ]

    async def show(self, _request: web.Request) -> web.Response:
        """Tenants that are paused or have rows on hold, the longest paused first."""
        with postgres.translated(self._settings):
            async with self._pool.acquire() as connection:
                found = await tenants.states(connection, MOST_TENANTS)
        return web.json_response({"tenants": [_state(one) for one in found]}, headers=_NO_STORE)

    async def history(self, _request: web.Request) -> web.Response:
        """Who paused and resumed whom, the newest first."""
        with postgres.translated(self._settings):
            async with self._pool.acquire() as connection:
                found = await tenants.history(connection, MOST_MOVES)
        return web.json_response({"history": [_move(one) for one in found]}, headers=_NO_STORE)

    async def pause(self, request: web.Request) -> web.Response:
        """Hold the tenant's rows in the outbox; others go on."""
        why, by = parsed(WhyBody, await body_of(request)).why, operator_of(request).subject
        with postgres.translated(self._settings):
            async with self._pool.acquire() as connection:
                changed = await tenants.pause(connection, request.match_info["tenant"], why=why, by=by)
        return web.json_response({"changed": changed}, headers=_NO_STORE)

    async def resume(self, request: web.Request) -> web.Response:
        """Let the tenant's rows go, the oldest first."""
        why, by = parsed(WhyBody, await body_of(request)).why, operator_of(request).subject
        with postgres.translated(self._settings):
            async with self._pool.acquire() as connection:
                changed = await tenants.resume(connection, request.match_info["tenant"], why=why, by=by)
        return web.json_response({"changed": changed}, headers=_NO_STORE)


def _state(state: tenants.TenantState) -> JsonObject:
    return {
        "tenant": state.tenant_id,
        "held_rows": state.held_rows,
        "blocked_rows": state.blocked_rows,
        "oldest_at": _moment(state.oldest_at),
        "paused_at": _moment(state.paused_at),
        "paused_by": state.paused_by,
        "why": state.why,
    }


def _move(move: tenants.Move) -> JsonObject:
    return {
        "at": move.at.isoformat(),
        "actor": move.actor,
        "move": move.move,
        "tenant": move.tenant_id,
        "why": move.why,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
