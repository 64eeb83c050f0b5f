"""What a worker answers about its tables, over HTTP, for one tenant: JSON, CSV, and pages for people.

    /tables/                    the tables
    /tables/<name>/             a tenant's rows
    /tables/<name>/<key>        one subject: its parts, encoded, joined by "/"; fewer parts: all that begin so

Where it stands: `tables.query` reads the question, `tables.routing` finds the rows, `tables.answers` and the renderers
write them down. Rows come from the store, so only what the changelog has is shown. The tenant comes from the token; a
`tenant` parameter that says otherwise is refused. Rows that the token's channels do not cover are left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web

from contracts.errors import QueryError, TokenError
from contracts.text import has_control
from runtime import tokens
from tables import render_csv, render_html, shares
from tables.answers import Answer, TableState, as_json, index_json, missing_json, progress_json
from tables.page_style import POLICY
from tables.peers import PARTITIONS, partitions_of, partitions_text
from tables.query import Query, parse
from tables.recovery import Progress
from tables.render_html import Where
from tables.routing import Gathered, Router, Served, Unanswered
from tables.scanning import Turns
from tables.shares import Line, line_of

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import AuthSettings
    from runtime.tokens import TokenClaims

ROOT = "/tables/"
PARTIAL = "Headrace-Partial"
PROBLEM = "application/problem+json"
# A restore replays 100,000 records a second or more.
REPLAYED_EACH_S = 100_000
# Rows are compared within their first two parts (experiment, epoch); a question that narrows the others lacks some.
COMPARED_BY = 2
MAX_RETRY_S = 30
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {"json": "application/json", "csv": render_csv.CONTENT_TYPE, "html": render_html.CONTENT_TYPE}

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Refused(Exception):  # noqa: N818 - it is an answer
    """An answer other than 200: RFC 9457 problem+json, or a page."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        told = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
        self.members = told | dict(members or {})
        self.progress: Progress | None = None


class TableViews:
    """The tables over HTTP."""

    def __init__(self, tables: Mapping[str, Served], router: Router, auth: AuthSettings, clock: Clock) -> None:
        self._tables = tables
        self._router = router
        self._auth = auth
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        """Route the tables' addresses on `app`, and close the connections to other workers with it."""
        app.router.add_get(ROOT, self._answered(self.index))
        app.router.add_get(ROOT + "{rest:.+}", self._answered(self.rows))
        app.on_cleanup.append(self._closed)

    async def index(self, request: web.Request) -> web.Response:
        """GET /tables/: the tables of this worker, and how far their recovery is."""
        self._claims(request)
        tables = [TableState(table, self._router.placement.partitions) for table in self._tables.values()]
        form = format_of(request)
        body = render_html.index(tables) if form == "html" else index_json(tables)
        return _response(body, "json" if form == "csv" else form)

    async def rows(self, request: web.Request) -> web.Response:
        """GET /tables/<name>/ and /tables/<name>/<key>."""
        claims = self._claims(request)
        name, key = address_of(request.rel_url.raw_path)
        table = self._tables.get(name)
        if table is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"no table {name!r}; there are {', '.join(sorted(self._tables))}")
        now_ms = int(1000 * self._clock.wall_s())
        params = with_key(table, key, _params(request))
        query = parse(table.kind, params, tenant_id=claims.tenant_id, channels=claims.channels, now_ms=now_ms)
        if PARTITIONS in request.headers:
            return await self._part(table, query, request.headers[PARTITIONS])
        form = format_of(request)
        answer = await self._answer(table, query, _bearer(request), now_ms)
        return await asyncio.to_thread(_rendered, answer, form, _where(request, key))

    async def _part(self, table: Served, query: Query, wanted: str) -> web.Response:
        """What another worker asks for: shares of some partitions, from here only."""
        try:
            partitions = partitions_of(wanted)
        except ValueError:
            raise QueryError(PARTITIONS, "must be partition numbers, separated by commas", wanted) from None
        part = await self._router.read_here(table, query, partitions)
        body = await asyncio.to_thread(shares.encode, part, query.kind.fold)
        return web.Response(body=body, content_type=shares.CONTENT_TYPE, headers=HEADERS)

    async def _answer(self, table: Served, query: Query, token: str, now_ms: int) -> Answer:
        gathered = await self._router.gather(table, query, token)
        page, turns = gathered.page, Turns(query.limit)
        kept_from_ms = table.kept_from_ms(now_ms)
        lines = []
        for share in page.shares:
            lines.append(line_of(share, query, over_ms=now_ms - table.lateness_ms, kept_from_ms=kept_from_ms))
            await turns.worked()
        places = [share.place for share in page.shares]
        following = query.cursor(places[-1]) if page.more else None
        together = await asyncio.to_thread(compared, table, query, gathered)
        return Answer(query, places, lines, gathered.missing, following, together)

    def _claims(self, request: web.Request) -> TokenClaims:
        try:
            claims = tokens.verify(self._auth, _bearer(request))
        except TokenError as error:
            detail = f"{error}; send Authorization: Bearer, or look at the same page through the gateway"
            raise Refused(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"}) from None
        if request.query.get("tenant", claims.tenant_id) != claims.tenant_id:
            raise Refused(HTTPStatus.FORBIDDEN, "the token is for another tenant")
        return claims

    def _answered(self, handler: Handler) -> Handler:
        async def answered(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except Refused as refused:
                return _refusal(refused, request)
            except QueryError as error:
                return _refusal(Refused(HTTPStatus.BAD_REQUEST, str(error), members=error.fields), request)
            except Unanswered as unanswered:
                return _refusal(_not_yet(unanswered), request)

        return answered

    async def _closed(self, _app: web.Application) -> None:
        await self._router.peers.stop()


def compared(table: Served, query: Query, gathered: Gathered) -> Sequence[Line] | None:
    """What the rows say together, when all of them are here: every row of the first parts that the query names."""
    named = [part is not None for part in query.parts]
    whole = not (gathered.missing or gathered.page.more or query.after)
    if table.compare is None or not whole or any(named[COMPARED_BY:]):
        return None
    return table.compare({share.subject: share.state for share in gathered.page.shares})


def address_of(raw_path: str) -> tuple[str, tuple[str, ...]]:
    """The table and the parts of the key that an encoded path names."""
    name, slash, rest = raw_path.removeprefix(ROOT).partition("/")
    return unquote(name), tuple(map(unquote, rest.split("/"))) if slash and rest else ()


def with_key(table: Served, key: tuple[str, ...], params: dict[str, str]) -> dict[str, str]:
    """The parameters and what the path says, which must not contradict them. Raises QueryError."""
    parts = table.kind.parts
    if len(key) > len(parts):
        limit = f"{table.kind.name} has {len(parts)} parts ({', '.join(parts) or 'none'}); encode / as %2F"
        raise QueryError("key", limit, "/".join(key))
    for name, part in zip(parts, key, strict=False):
        if params.setdefault(name, part) != part:
            raise QueryError(name, f"the path says {part!r}", params[name])
    for name, value in params.items():
        if has_control(value):  # also bytes that are not UTF-8
            raise QueryError(name, "must be text without control characters", value)
    return params


def format_of(request: web.Request) -> str:
    """json, csv or html: by `format`, else by what Accept likes best; json when it does not say. Raises QueryError."""
    asked = request.query.get("format")
    if asked is not None:
        if asked not in _TYPES:
            raise QueryError("format", f"must be one of {', '.join(_TYPES)}", asked)
        return asked
    best, chosen = 0.0, "json"
    for text in request.headers.get("Accept", "").split(","):
        kind, _, rest = text.strip().partition(";")
        form = {"application/json": "json", "text/csv": "csv", "text/html": "html"}.get(kind.strip().lower())
        if form is not None and _quality(rest) > best:
            best, chosen = _quality(rest), form
    return chosen


def _quality(text: str) -> float:
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _params(request: web.Request) -> dict[str, str]:
    """The parameters, empty ones left out (a form sends them). Raises QueryError for one that is given twice."""
    params: dict[str, str] = {}
    for name, value in request.query.items():
        if name in params:
            raise QueryError(name, f"must be given once, is {params[name]!r} already", value)
        if value:
            params[name] = value
    return params


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _where(request: web.Request, key: tuple[str, ...] = ()) -> Where:
    depth = request.rel_url.raw_path.removeprefix(ROOT).count("/")
    return Where("../" * depth or "./", key, dict(request.query))


def _rendered(answer: Answer, form: str, where: Where) -> web.Response:
    headers = {}
    if answer.partial:
        headers[PARTIAL] = partitions_text(frozenset(partition for partition, _ in answer.missing))
    if answer.next_link is not None:
        headers["Link"] = f'<{answer.next_link}>; rel="next"'
    if form == "csv":
        headers["Content-Disposition"] = f'attachment; filename="{answer.query.kind.name}.csv"'
        return _response(render_csv.render(answer), form, headers)
    return _response(render_html.page(answer, where) if form == "html" else as_json(answer), form, headers)


def _response(body: bytes, form: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, headers={**HEADERS, **(headers or {}), "Content-Type": _TYPES[form]})


def _not_yet(unanswered: Unanswered) -> Refused:
    progress = unanswered.progress
    retry_s = min(MAX_RETRY_S, 1 + progress.left // REPLAYED_EACH_S)
    refused = Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"no rows can be read now: {unanswered}",
        headers={"Retry-After": str(retry_s)},
        members={"missing": missing_json(unanswered.missing), "progress": progress_json(progress)},
    )
    refused.progress = progress
    return refused


def _refusal(refused: Refused, request: web.Request) -> web.Response:
    try:
        form = format_of(request)
    except QueryError:
        form = "json"
    headers = {**HEADERS, **refused.headers}
    if form == "html" and PARTITIONS not in request.headers:
        if "Retry-After" in headers:
            headers["Refresh"] = headers["Retry-After"]
        detail = str(refused.members["detail"])
        body = render_html.refusal(refused.status, refused.status.phrase, detail, _where(request), refused.progress)
        return web.Response(body=body, status=refused.status, headers={**headers, "Content-Type": _TYPES["html"]})
    body = json.dumps(refused.members).encode()
    return web.Response(body=body, status=refused.status, headers={**headers, "Content-Type": PROBLEM})
