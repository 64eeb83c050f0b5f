"""/v1/control/breakers: every breaker of every process, and an operator's word on them.

A word always ends by itself: a breaker that was switched off for a night and forgotten is missed at the next outage.
It is not kept in PostgreSQL's audit: it lives in Redis, says who said it and why, and each process logs what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from contracts.errors import QueryError
from contracts.text import has_control
from control.bodies import parsed
from control.server import ROOT, operator_of
from reliability.breaker_machine import Mode
from runtime.http import body_of

if TYPE_CHECKING:
    from streams.reliability_report import ReliabilityBoard

PATH = f"{ROOT}/breakers"
LONGEST_S = 7 * 86_400.0
NAME_CHARS = 100
REASON_CHARS = 500
# AUTO is what holds without a word.
WORDS = tuple(mode.value for mode in Mode if mode is not Mode.AUTO)
_NO_STORE = {"Cache-Control": "no-store"}


class BreakerBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which breaker is held how, for how many seconds, and why."""

    name: str
    mode: str
    seconds: float
    why: str

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check(self.name, self.mode, self.seconds, self.why)


class NameBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which breaker."""

    name: str


def check(name: str, mode: str, seconds: float, why: str) -> None:
    """Raise QueryError for a word that is none."""
    if not 1 <= len(name) <= NAME_CHARS or has_control(name):
        raise QueryError("name", f"must have 1 to {NAME_CHARS} characters and no control character", name)
    if mode not in WORDS:
        raise QueryError("mode", f"must be one of {', '.join(WORDS)}", mode)
    if not 1 <= seconds <= LONGEST_S:
        raise QueryError("seconds", f"must be from 1 to {LONGEST_S:.0f}: a word ends by itself", seconds)
    if not why.strip() or len(why) > REASON_CHARS or has_control(why):
        raise QueryError("why", f"must say why, in at most {REASON_CHARS} characters on one line", why)


class BreakerApi:
    """The routes."""

    def __init__(self, board: ReliabilityBoard) -> None:
        self._board = board

    def routes(self) -> list[web.RouteDef]:
        """All of them; what changes something is a POST, as elsewhere."""
        return [web.get(PATH, self.show), web.post(PATH, self.set), web.post(f"{PATH}/clear", self.clear)]

    async def show(self, _request: web.Request) -> web.Response:
        """Every process' policies, and operators' words by breaker."""
        return web.json_response(await self._board.as_json(), headers=_NO_STORE)

    async def set(self, request: web.Request) -> web.Response:
        """Hold a breaker in all processes, within a second or two; a further word takes the place of the one before."""
        body = parsed(BreakerBody, await body_of(request))
        by = operator_of(request).subject
        await self._board.say(body.name, Mode(body.mode), seconds=body.seconds, by=by, why=body.why)
        return await self.show(request)

    async def clear(self, request: web.Request) -> web.Response:
        """Leave it to its settings again. The same when nobody had said anything."""
        await self._board.unsay(parsed(NameBody, await body_of(request)).name)
        return await self.show(request)
