"""The operators' API, handed on: a browser with an operator's session cookie reaches the control process here.

The token goes on as a bearer token. Whoever is not an operator is turned away before; a request that changes something
must come from an allowed origin, since a browser sends its cookie whoever asked it to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from gateway.pages import SECURITY
from gateway.problem import Problem
from runtime.http import body_of

if TYPE_CHECKING:
    from gateway.auth import Caller
    from runtime.settings import GatewaySettings

ROOT = "/v1/control/"
HANDED_ON = ("Content-Type", "Location", "Retry-After", "Allow")
RETRY_S = 2
_CHUNK_BYTES = 65_536


class Control:
    """Asks the control process. Owns a session of client connections; close it with `stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def stop(self) -> None:
        """Close the connections to the control process."""
        if self._session is not None:
            await self._session.close()

    async def hand_on(self, caller: Caller, request: web.Request) -> web.StreamResponse:
        """The control process' answer, its body as it comes.

        Waits at most gateway.control_timeout_s for its head and then for each part; an answer that is cut stays cut.

        Raises:
            Problem: 403 for a caller who is no operator, 404 for a path that leads elsewhere or without a control
                process, 408 for a body that does not come, 503 when the control process does not answer.
        """
        if not caller.claims.operator:
            raise Problem(403, "this takes an operator's token", {"reason": "not_operator"})
        # Also encoded ones: what stands between here and there may decode them, and walk out of /v1/control/.
        path = request.rel_url.raw_path
        if any(part in (".", "..") for part in unquote(path).replace("\\", "/").split("/")):
            raise Problem(404, f"{path[:200]}: there is no such thing")
        if not self._settings.control_url:
            raise Problem(404, "this gateway knows no control process; see gateway.control_url")
        body, answer = await body_of(request), web.StreamResponse()
        try:
            await self._answer(caller, request, body, answer)
            return answer
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            if answer.prepared:
                # Its client has to see that it is not whole: no end of the body, no other answer behind it.
                if request.transport is not None:
                    request.transport.abort()
                return answer
            detail = f"the control process does not answer ({type(error).__name__}); see gateway.control_url"
            raise Problem(503, detail, headers={"Retry-After": str(RETRY_S)}) from None

    async def _answer(self, caller: Caller, request: web.Request, body: bytes, answer: web.StreamResponse) -> None:
        url = URL(f"{self._settings.control_url.rstrip('/')}{request.rel_url.raw_path_qs}", encoded=True)
        headers = {"Authorization": f"Bearer {caller.token}"}
        if request.method != "GET":
            headers["Content-Type"] = request.headers.get("Content-Type", "")
        async with self._connected().request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as found:
            answer.set_status(found.status)
            kept = {name: found.headers[name] for name in HANDED_ON if name in found.headers}
            answer.headers.update({**SECURITY, "Cache-Control": "no-store", **kept})
            answer.content_length = found.content_length
            answer.force_close()
            chunks = found.content.iter_chunked(_CHUNK_BYTES)
            first = await anext(chunks, b"")  # before ours begins: until then a failure can still be told
            await answer.prepare(request)
            await answer.write(first)
            async for chunk in chunks:
                await answer.write(chunk)
            await answer.write_eof()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            wait_s = self._settings.control_timeout_s
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=wait_s, sock_read=wait_s)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self._session
