"""Rows of the workers' tables, collected: every worker holds some partitions, a tenant's tools may be on any of them.

Each configured host is resolved to all of its addresses (a headless Kubernetes service names every worker) and each is
asked once, with the caller's own token. An answer that is late, broken or partial itself makes the whole partial, never
an error: the page shows what there is and says so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from contracts.names import channel_matches, tool_channel

if TYPE_CHECKING:
    from gateway.auth import Caller
    from runtime.settings import GatewaySettings

PATH = "/tables/tool_latency/"
MOST_BYTES = 16_777_216

Row = Mapping[str, Any]


class Answer(NamedTuple):
    """One worker's rows; `partial` when it could not give all of them."""

    rows: list[Row]
    partial: bool


FAILED = Answer([], partial=True)


class Tables:
    """Asks the workers. Owns a session of client connections; close it with `stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def stop(self) -> None:
        """Close the connections to workers."""
        if self._session is not None:
            await self._session.close()

    async def tool_latency(self, caller: Caller, minutes: int) -> dict[str, object]:
        """The caller's windows that ended in the last `minutes`, by tool and start.

        Waits at most gateway.table_timeout_s for all workers together.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession()
        query = {"tenant": caller.claims.tenant_id, "minutes": str(minutes)}
        answers: list[Answer] = []
        for urls in await asyncio.gather(*(self._addresses(url) for url in self._settings.worker_urls)):
            if not urls:
                answers.append(FAILED)
            answers += await asyncio.gather(*(self._ask(self._session, at, host, caller, query) for at, host in urls))
        rows = merged((row for answer in answers for row in answer.rows), caller)
        return {"table": "tool_latency", "partial": any(a.partial for a in answers), "rows": rows}

    async def _addresses(self, url: str) -> list[tuple[str, str]]:
        """The URL once per address of its host, each with the host's own name for the Host header."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme == "https":
            return [(url, parts.netloc)]  # a certificate names the host, not its addresses
        try:
            async with asyncio.timeout(self._settings.table_timeout_s):
                found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            return []
        hosts = dict.fromkeys(f"[{at[0]}]" if family == socket.AF_INET6 else str(at[0]) for family, *_, at in found)
        return [(urlunsplit(parts._replace(netloc=f"{host}:{port}")), parts.netloc) for host in hosts]

    async def _ask(
        self, session: aiohttp.ClientSession, url: str, host: str, caller: Caller, query: Mapping[str, str]
    ) -> Answer:
        headers = {"Host": host, "Authorization": f"Bearer {caller.token}"}
        try:
            async with (
                asyncio.timeout(self._settings.table_timeout_s),
                session.get(url.rstrip("/") + PATH, params=query, headers=headers, allow_redirects=False) as response,
            ):
                if response.status != 200 or (response.content_length or 0) > MOST_BYTES:  # noqa: PLR2004
                    return FAILED
                body = await response.json()
        except (OSError, ValueError, TimeoutError, aiohttp.ClientError):
            return FAILED
        return parsed(body)


def parsed(body: object) -> Answer:
    """A worker's JSON answer; partial when it is not what a table view gives. Pure."""
    if not isinstance(body, dict) or not isinstance(body.get("rows"), list):
        return FAILED
    rows: list[Row] = [row for row in body["rows"] if isinstance(row, dict) and _complete(row)]
    return Answer(rows, partial=bool(body.get("partial")) or len(rows) < len(body["rows"]))


def merged(rows: Iterable[Row], caller: Caller) -> list[Row]:
    """One row per (tool, window), the highest revision of each, of the caller's tenant and channels only. Pure."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row["tenant_id"] != caller.claims.tenant_id:
            continue
        channel = tool_channel(row["tool"])
        if not any(channel_matches(granted, channel) for granted in caller.claims.channels):
            continue
        key = (row["tool"], row["window_start"])
        if key not in best or best[key]["revision"] < row["revision"]:
            best[key] = row
    return [best[key] for key in sorted(best)]


def _complete(row: Row) -> bool:
    texts = all(isinstance(row.get(name), str) for name in ("tenant_id", "tool", "window_start"))
    return texts and isinstance(row.get("revision"), int)
