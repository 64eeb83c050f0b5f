"""/v1/control/degradation: the level of degradation in force, why, and an operator's override of it.

An override always ends by itself, so that one that was forgotten is not found out at the next overload. It is not kept
in PostgreSQL's audit: it lives in Redis like what it overrides, and says who set it and why; each process logs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from contracts.errors import QueryError
from contracts.text import has_control
from control.bodies import parsed
from control.server import ROOT, operator_of
from reliability.ladder import Level
from runtime.http import body_of

if TYPE_CHECKING:
    from streams.degradation import DegradationBoard

PATH = f"{ROOT}/degradation"
LONGEST_S = 7 * 86_400.0
REASON_CHARS = 500
_NO_STORE = {"Cache-Control": "no-store"}


class OverrideBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which level holds (0 to 4), for how many seconds, and why."""

    level: int
    seconds: float
    why: str

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check(self.level, self.seconds, self.why)


def check(level: int, seconds: float, why: str) -> None:
    """Raise QueryError for an override that is none."""
    if level not in range(len(Level)):
        raise QueryError("level", f"must be from 0 to {max(Level):d}", level)
    if not 1 <= seconds <= LONGEST_S:
        raise QueryError("seconds", f"must be from 1 to {LONGEST_S:.0f}: an override ends by itself", seconds)
    if not why.strip() or len(why) > REASON_CHARS or has_control(why):
        raise QueryError("why", f"must say why, in at most {REASON_CHARS} characters on one line", why)


class DegradationApi:
    """The routes."""

    def __init__(self, board: DegradationBoard) -> None:
        self._board = board

    def routes(self) -> list[web.RouteDef]:
        """All of them; what changes something is a POST, as elsewhere."""
        return [web.get(PATH, self.show), web.post(PATH, self.set), web.post(f"{PATH}/clear", self.clear)]

    async def show(self, _request: web.Request) -> web.Response:
        """What is in force, what is off, and what each process says of itself."""
        return web.json_response((await self._board.exchange()).as_json(), headers=_NO_STORE)

    async def set(self, request: web.Request) -> web.Response:
        """Override; a further one takes the place of the one before."""
        body = parsed(OverrideBody, await body_of(request))
        by = operator_of(request).subject
        await self._board.override(Level(body.level), seconds=body.seconds, by=by, reason=body.why)
        return await self.show(request)

    async def clear(self, request: web.Request) -> web.Response:
        """End the override; what is measured holds again. The same when there was none."""
        await self._board.clear()
        return await self.show(request)
