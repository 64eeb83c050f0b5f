"""The workers' table views, handed on: a browser with the session cookie sees them under /v1/tables/.

Any worker answers for all of them (`tables.routing`), with the caller's own token. Each configured host is resolved to
its addresses (a headless Kubernetes service names every worker); they are asked in turn, beginning with another one
each time, until one has an answer. What a worker says of missing partitions is handed on as it is.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from gateway.problem import Problem

if TYPE_CHECKING:
    from gateway.auth import Caller
    from runtime.settings import GatewaySettings

ROOT = "/v1/tables/"
MOST_BYTES = 67_108_864
# Workers asked for one answer: the first may be gone, the second restoring.
MOST_ASKED = 3
RETRY_S = 2
HANDED_ON = (
    "Content-Type",
    "Content-Disposition",
    "Content-Security-Policy",
    "Headrace-Partial",
    "Link",
    "Refresh",
    "Retry-After",
    "Vary",
)
_UNAVAILABLE = 503


class Answer(NamedTuple):
    """A worker's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Tables:
    """Asks the workers. Owns a session of client connections; close it with `stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._turn = 0

    async def stop(self) -> None:
        """Close the connections to workers."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, caller: Caller, raw_path: str, query: str, accept: str) -> Answer:
        """What a worker answers at this path below /v1/tables/, both encoded as the caller sent them.

        Waits at most gateway.table_timeout_s for each of at most MOST_ASKED workers.

        Raises:
            Problem: 404 for a path that leads elsewhere, 503 when no worker answers.
        """
        # Also encoded ones: what stands between here and the workers may decode them, and walk out of /tables/.
        if any(part in (".", "..") for part in unquote(raw_path).replace("\\", "/").split("/")):
            raise Problem(404, f"{raw_path[:200]}: no table is called so")
        if self._session is None:
            self._session = aiohttp.ClientSession()
        headers = {"Authorization": f"Bearer {caller.token}", "Accept": accept}
        unavailable: Answer | None = None
        for url, host in await self._workers():
            address = URL(f"{url.rstrip('/')}/tables/{raw_path.removeprefix(ROOT)}?{query}".rstrip("?"), encoded=True)
            answer = await self._answer(self._session, address, headers | {"Host": host})
            if answer is not None and answer.status != _UNAVAILABLE:
                return answer
            unavailable = answer or unavailable
        if unavailable is not None:
            return unavailable
        raise Problem(_UNAVAILABLE, "no worker answers; see gateway.worker_urls", headers={"Retry-After": str(RETRY_S)})

    async def _workers(self) -> list[tuple[str, str]]:
        """Addresses to ask, each with the host's own name for the Host header."""
        found = await asyncio.gather(*(self._addresses(url) for url in self._settings.worker_urls))
        addresses = [address for of_host in found for address in of_host]
        self._turn += 1
        first = self._turn % max(1, len(addresses))
        return (addresses[first:] + addresses[:first])[:MOST_ASKED]

    async def _addresses(self, url: str) -> list[tuple[str, str]]:
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

    async def _answer(self, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str]) -> Answer | None:
        """None when there is none in time, or one that is too long."""
        try:
            async with (
                asyncio.timeout(self._settings.table_timeout_s),
                session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        return None
                kept = {name: response.headers[name] for name in HANDED_ON if name in response.headers}
                return Answer(response.status, kept, bytes(body))
        except (OSError, ValueError, TimeoutError, aiohttp.ClientError):
            return None
