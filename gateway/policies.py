"""GET /v1/reliability: what the policies of all processes do now. For any valid token: it holds nothing of a tenant.

What operators wrote (who holds a breaker or a level, and why) is for operators only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from gateway.auth import Doorkeeper
    from gateway.load import Load
    from streams.reliability_report import ReliabilityBoard

PATH = "/v1/reliability"
_NO_STORE = {"Cache-Control": "no-store"}


class Policies:
    """Answers from the board that every process writes once a second."""

    def __init__(self, doorkeeper: Doorkeeper, load: Load, board: ReliabilityBoard) -> None:
        self._doorkeeper = doorkeeper
        self._load = load
        self._board = board

    def add_to(self, app: web.Application) -> None:
        """Route it."""
        app.router.add_get(PATH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """States by process and operators' words by breaker; 503 when Redis does not answer in its time."""
        claims = self._doorkeeper.admit({name.lower(): value for name, value in request.headers.items()}).claims
        await self._load.request(claims.tenant_id, "reliability")
        shown = await self._board.as_json()
        return web.json_response(shown if claims.operator else for_clients(shown), headers=_NO_STORE)


def for_clients(shown: dict[str, Any]) -> dict[str, Any]:
    """What the board shows, without operators' names and words. Pure."""
    return {
        "processes": [_without_reasons(state) for state in shown["processes"]],
        "operators": {name: _without(word, "by", "why") for name, word in shown["operators"].items()},
    }


def _without_reasons(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "degradation": [_without(each, "why") for each in state.get("degradation", [])]}


def _without(said: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name not in names}
