"""GET /v1/reliability: what the policies of all processes do now. For any valid token: it holds nothing of a tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from gateway.auth import Doorkeeper
    from streams.reliability_report import ReliabilityBoard

PATH = "/v1/reliability"
_NO_STORE = {"Cache-Control": "no-store"}


class Policies:
    """Answers from the board that every process writes once a second."""

    def __init__(self, doorkeeper: Doorkeeper, board: ReliabilityBoard) -> None:
        self._doorkeeper = doorkeeper
        self._board = board

    def add_to(self, app: web.Application) -> None:
        """Route it."""
        app.router.add_get(PATH, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """States by process and operators' words by breaker; 503 when Redis does not answer in its time."""
        self._doorkeeper.admit({name.lower(): value for name, value in request.headers.items()})
        return web.json_response(await self._board.as_json(), headers=_NO_STORE)
