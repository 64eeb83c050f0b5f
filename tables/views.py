"""What a worker answers about its tables: /tables/ and /tables/tool_latency/, JSON, for one tenant.

Rows come from the store, so only what the changelog has is shown. The tenant comes from the token; a `tenant` parameter
that says otherwise is refused. Rows of tools that the token's channels do not cover are left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from contracts.errors import TokenError
from contracts.names import channel_matches
from runtime import tokens
from tables import tool_latency as tl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.clock import Clock
    from runtime.settings import Settings
    from runtime.tokens import TokenClaims
    from tables.window_table import WindowTable

MAX_MINUTES = 24 * 60
DEFAULT_MINUTES = 10
MAX_ROWS = 10_000
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class LatencyView:
    """The tool_latency table over HTTP."""

    table: WindowTable
    settings: Settings
    clock: Clock

    def add_to(self, app: web.Application) -> None:
        """Route the table's addresses on `app`."""
        app.router.add_get("/tables/", self.index)
        app.router.add_get("/tables/tool_latency/", self.rows)

    async def index(self, request: web.Request) -> web.Response:
        """The tables that this worker has."""
        self._claims(request)
        table = {"name": self.table.name, "url": "/tables/tool_latency/", "partitions": sorted(self.table.active)}
        return web.json_response({"tables": [table]})

    async def rows(self, request: web.Request) -> web.Response:
        """Windows of the last `minutes` (1 to 1440, default 10), oldest first; `tool` narrows to one tool."""
        claims = self._claims(request)
        if not self.table.recovered:
            raise web.HTTPServiceUnavailable(
                headers={"Retry-After": str(RETRY_AFTER_S)}, text="the table is being restored from its changelog"
            )
        since_ms = int(1000 * self.clock.wall_s()) - 60_000 * _minutes(request)
        found = sorted(self._visible(claims, since_ms, request.query.get("tool")), key=lambda pair: pair[0].start_ms)
        rows = [window_json(key, row, self.settings.worker.window_s) for key, row in found[-MAX_ROWS:]]
        return web.json_response(
            {
                "table": self.table.name,
                "partial": len(found) > MAX_ROWS,
                "partitions": sorted(self.table.active),
                "rows": rows,
            }
        )

    def _claims(self, request: web.Request) -> TokenClaims:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = tokens.verify(self.settings.auth, token if scheme.lower() == "bearer" else "")
        except TokenError as error:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"}, text=str(error)) from None
        if request.query.get("tenant", claims.tenant_id) != claims.tenant_id:
            raise web.HTTPForbidden(text="the token is for another tenant")
        return claims

    def _visible(self, claims: TokenClaims, since_ms: int, tool: str | None) -> Iterator[tuple[tl.WindowKey, tl.Row]]:
        for partition in self.table.active:
            for raw_key, raw in self.table.rows.items(partition):
                key = tl.decode_key(raw_key)
                if key is None or key.tenant_id != claims.tenant_id or key.start_ms < since_ms:
                    continue
                if tool is not None and key.tool != tool:
                    continue
                if any(channel_matches(pattern, f"tools:{key.tool}") for pattern in claims.channels):
                    yield key, tl.decode_row(raw)


def window_json(key: tl.WindowKey, row: tl.Row, window_s: int) -> dict[str, object]:
    """One row as people read it: times in RFC 3339 UTC, latencies in milliseconds."""
    return {
        "tenant_id": key.tenant_id,
        "tool": key.tool,
        "window_start": rfc3339(key.start_ms),
        "window_end": rfc3339(key.start_ms + 1000 * window_s),
        **asdict(tl.summarise(row)),
        "closed": row.announced >= 0,
        "revision": tl.revision_of(row),
    }


def rfc3339(at_ms: int) -> str:
    """A time in milliseconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _minutes(request: web.Request) -> int:
    text = request.query.get("minutes", str(DEFAULT_MINUTES))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_MINUTES:
        raise web.HTTPBadRequest(text=f"minutes: must be from 1 to {MAX_MINUTES} (got {text[:20]!r})")
    return int(text)
