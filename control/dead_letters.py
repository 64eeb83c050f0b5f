"""Dead letters over HTTP. Every path is below /v1/control; bodies and filters are those of `control.bodies`.

GET   /dead-letters                 a page, newest first: filter, limit, before
GET   /dead-letters/summary         counted by state, source, stream and reason
GET   /dead-letters/export          all of a filter with their bytes, one JSON object a line
GET   /dead-letters/{id}            one with its bytes and its history
POST  /dead-letters/requeue         202 and the requeue's id
POST  /dead-letters/discard, /dead-letters/purge, /dead-letters/reclaim
GET   /requeues, /requeues/{id}     what was asked for, and what became of it
POST  /requeues/{id}/cancel
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from contracts.errors import ServerMissing
from control.bodies import MoveBody, ReclaimBody, RequeueBody, WhyBody, allow, filter_of, number_in, parsed, text_in
from control.server import ROOT, operator_of
from runtime.http import body_of
from runtime.logs import get_logger
from runtime.problem import Problem
from streams import letter_json, letter_moves, letter_rows, postgres
from streams.letter_filter import MAX_ID
from streams.letter_moves import Order

if TYPE_CHECKING:
    from contracts.json_types import Json, JsonObject
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.letter_filter import LetterFilter
    from streams.letter_rows import Content, Letter
    from streams.postgres import Connection, Pool

    _Move = Callable[[Connection, LetterFilter, Order], Awaitable[list[int]]]

_log = get_logger(__name__)

PAGE_LETTERS = 50
MOST_LETTERS = 500
MOST_GROUPS = 1000
REQUEUES = 50


class DeadLetterApi:
    """The handlers and what they need; `requeued` is called when something was, so that it leaves at once."""

    def __init__(self, settings: Settings, pool: Pool, clock: Clock, requeued: Callable[[], None]) -> None:
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._requeued = requeued

    def routes(self) -> list[web.RouteDef]:
        """All routes; a fixed word stands before an id."""
        letters, requeues = f"{ROOT}/dead-letters", f"{ROOT}/requeues"
        return [
            web.get(letters, self.find),
            web.get(f"{letters}/summary", self.summary),
            web.get(f"{letters}/export", self.export),
            web.get(f"{letters}/history", self.history),
            web.get(f"{letters}/{{id:[0-9]{{1,19}}}}", self.show),
            web.post(f"{letters}/requeue", self.requeue),
            web.post(f"{letters}/discard", self.discard),
            web.post(f"{letters}/purge", self.purge),
            web.post(f"{letters}/reclaim", self.reclaim),
            web.get(requeues, self.requeues),
            web.get(f"{requeues}/{{id:[0-9]{{1,19}}}}", self.requeue_of),
            web.post(f"{requeues}/{{id:[0-9]{{1,19}}}}/cancel", self.cancel),
        ]

    async def find(self, request: web.Request) -> web.Response:
        """A page of letters; `next` is the next one's path, or null."""
        query = _query(request)
        which = filter_of(query, others=frozenset({"limit", "before"}))
        limit = min(MOST_LETTERS, number_in(query, "limit") or PAGE_LETTERS)
        before_id = min(MAX_ID, number_in(query, "before") or MAX_ID)
        async with self._connection() as connection:
            found = await letter_rows.find(connection, which, limit=limit, before_id=before_id)
        following = None
        if len(found) == limit:
            pairs = [(name, text) for name, texts in query.items() for text in texts if name != "before"]
            following = f"{request.path}?{urlencode([*pairs, ('before', str(found[-1].id))])}"
        return _json({"letters": [letter_json.of_letter(letter) for letter in found], "next": following})

    async def summary(self, request: web.Request) -> web.Response:
        """Letters counted, and whether somebody is there to send what is requeued."""
        which = filter_of(_query(request))
        async with self._connection() as connection:
            groups = await letter_rows.summary(connection, which)
            running = await letter_rows.requeuer_runs(connection)
        told: list[Json] = [letter_json.of_group(group) for group in groups[:MOST_GROUPS]]
        return _json({"groups": told, "more_groups": max(0, len(groups) - MOST_GROUPS), "requeuer": running})

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Letters with their bytes, one JSON object a line. A body that ends early is cut, not ended."""
        which = filter_of(_query(request))
        page = await self._after(which, 0)  # before the answer begins: until then a failure can still be told
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        await response.prepare(request)
        try:
            while page:
                told = (letter_json.of_letter(letter) | letter_json.of_content(content) for letter, content in page)
                await response.write(b"".join(json.dumps(line).encode() + b"\n" for line in told))
                page = await self._after(which, page[-1][0].id)
        except ServerMissing as error:
            _log.warning("an export was cut", error=str(error))
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    async def history(self, request: web.Request) -> web.Response:
        """The audit of all letters; `before` takes an `id` of it."""
        query = _query(request)
        allow(query, frozenset({"actor", "limit", "before"}))
        actor, limit = text_in(query, "actor"), min(MOST_LETTERS, number_in(query, "limit") or PAGE_LETTERS)
        before_id = min(MAX_ID, number_in(query, "before") or MAX_ID)
        async with self._connection() as connection:
            found = await letter_rows.moves(connection, limit=limit, before_id=before_id, actor=actor)
        lines: list[Json] = [{"id": n, "letter": letter, **letter_json.of_move(move)} for n, letter, move in found]
        return _json({"history": lines})

    async def show(self, request: web.Request) -> web.Response:
        """One letter; 404 when there is none of that id (a purged one has a history)."""
        letter_id = _id(request)
        async with self._connection() as connection:
            history = [letter_json.of_move(move) for move in await letter_rows.history(connection, letter_id)]
            found = await letter_rows.one(connection, letter_id)
        if found is None:
            detail = f"letter {letter_id} was purged" if history else f"there is no letter {letter_id}"
            raise Problem(404, detail, {"history": history})
        return _json(letter_json.of_letter(found[0]) | letter_json.of_content(found[1]) | {"history": [*history]})

    async def requeue(self, request: web.Request) -> web.Response:
        """Order that letters are sent again. 202 with the requeue's path; 200 when none of them can be.

        `not_taken_back` names the sources of dead letters that nobody takes back.
        """
        body = parsed(RequeueBody, await body_of(request))
        rate_per_s = self._settings.control.requeue_rate_per_s if body.rate_per_s is None else body.rate_per_s
        which, order = body.meant(), self._order(request, body)
        async with self._connection() as connection:
            asked = await letter_moves.requeue(connection, which, order, rate_per_s=rate_per_s)
            left = await letter_moves.not_taken_back(connection, which)
        stuck: JsonObject = {"not_taken_back": [*left]}
        if asked is None:
            return _json({"requeue_id": None, "letters": 0, **stuck})
        self._requeued()
        answer = _json({"requeue_id": asked.requeue_id, "letters": asked.letters, **stuck}, status=202)
        answer.headers["Location"] = f"{ROOT}/requeues/{asked.requeue_id}"
        return answer

    async def discard(self, request: web.Request) -> web.Response:
        """Give dead letters up."""
        return await self._move(request, letter_moves.discard)

    async def purge(self, request: web.Request) -> web.Response:
        """Delete closed letters."""
        return await self._move(request, letter_moves.purge)

    async def reclaim(self, request: web.Request) -> web.Response:
        """Take letters back of which nothing was heard."""
        body = parsed(ReclaimBody, await body_of(request))
        which, order = body.meant(), self._order(request, body)
        before = self._clock.now() - timedelta(hours=body.hours)
        async with self._connection() as connection:
            return _json({"letters": len(await letter_moves.reclaim(connection, which, order, sent_before=before))})

    async def requeues(self, request: web.Request) -> web.Response:
        """The last requeues, newest first."""
        query = _query(request)
        allow(query, frozenset({"limit"}))
        limit = min(MOST_LETTERS, number_in(query, "limit") or REQUEUES)
        async with self._connection() as connection:
            found = await letter_rows.requeues(connection, limit=limit)
        return _json({"requeues": [letter_json.of_requeue(one) for one in found]})

    async def requeue_of(self, request: web.Request) -> web.Response:
        """One requeue."""
        async with self._connection() as connection:
            return _json(letter_json.of_requeue(await _requeue(connection, _id(request))))

    async def cancel(self, request: web.Request) -> web.Response:
        """End a requeue; what has not left is dead again."""
        body, requeue_id = parsed(WhyBody, await body_of(request)), _id(request)
        order = Order(operator_of(request).subject, body.why, 1)
        async with self._connection() as connection:
            await _requeue(connection, requeue_id)
            return _json({"letters": await letter_moves.cancel(connection, requeue_id, order)})

    async def _move(self, request: web.Request, move: _Move) -> web.Response:
        body = parsed(MoveBody, await body_of(request))
        which, order = body.meant(), self._order(request, body)
        async with self._connection() as connection:
            return _json({"letters": len(await move(connection, which, order))})

    def _order(self, request: web.Request, body: MoveBody) -> Order:
        most = self._settings.control.requeue_letters if body.limit is None else body.limit
        return Order(operator_of(request).subject, body.why, most)

    async def _after(self, which: LetterFilter, letter_id: int) -> list[tuple[Letter, Content]]:
        """The next letters of an export. The connection goes back meanwhile: its reader may be slow, or stall."""
        async with self._connection() as connection:
            return await letter_rows.after(connection, which, letter_id)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        with postgres.translated(self._settings.postgres):
            async with self._pool.acquire() as connection:
                yield connection


async def _requeue(connection: Connection, requeue_id: int) -> letter_rows.Requeue:
    found = await letter_rows.requeue(connection, requeue_id)
    if found is None:
        raise Problem(404, f"there is no requeue {requeue_id}")
    return found


def _query(request: web.Request) -> Mapping[str, Sequence[str]]:
    return {name: request.query.getall(name) for name in request.query}


def _id(request: web.Request) -> int:
    number = int(request.match_info["id"])
    if not 0 < number <= MAX_ID:
        raise Problem(404, f"there is no {number}")
    return number


def _json(value: JsonObject, *, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, headers={"Cache-Control": "no-store"})
