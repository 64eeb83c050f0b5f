"""One request to the shop system: sent, answered, judged. The only part of the adapter that has a socket.

Where it stands: `agents.adapter` calls `post` within its policies (`reliability.stack`), which bound its time and
decide about another try; `agents.adapter_answer` judges the answer. What is different from aiohttp's defaults, and why:

- redirects are not followed: one would carry event and token to a place that nobody configured;
- no cookies, no proxy and no credentials from the environment: a request depends on its event and the settings alone;
- an answer counts when all of it is there, up to `answer_bytes`; a longer one is cut and its connection closed;
- nothing is decompressed: a small answer cannot become a large one.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from agents.adapter_answer import judged
from contracts.endpoint_errors import AnswerBroken, EndpointError, EndpointUnreachable
from contracts.errors import SettingsError, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents.adapter_request import OrderRequest
    from reliability.call import Try
    from runtime.clock import Clock
    from runtime.metrics import Metrics
    from runtime.settings_adapter import AdapterSettings

USER_AGENT = "headrace-adapter"
_PIECE_BYTES = 16_384
# The share of a try's time that its connection may take: a try that ends before it has one has told nobody, and the
# connection's own limit is what knows that.
CONNECT_RATIO = 0.9
_QUERY = re.compile(r"\?[^\s'\"]*")

# True: those that the system trusts.
Trust = ssl.SSLContext | bool


class AdapterMetrics:
    """What the shop system answered. How often, and what became of the events: the effect and breaker metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.histogram(
            "adapter_request_seconds",
            "Requests to the shop system, from the first byte to the last, by the status answered, or how it failed.",
            ("result",),
        )


class ShopClient:
    """The shop system at `settings.url`. Made by `opened`."""

    def __init__(
        self, settings: AdapterSettings, session: aiohttp.ClientSession, metrics: AdapterMetrics, clock: Clock
    ) -> None:
        self._settings, self._session, self._metrics, self._clock = settings, session, metrics, clock
        self.endpoint = f"POST {without_query(settings.url)}"

    async def post(self, request: OrderRequest, which: Try) -> None:
        """Tell the shop of an event; returns when it has taken it. The caller bounds the time.

        Raises:
            EndpointError: it did not take it, or may not have; the leaf says which.
        """
        began_s, result = self._clock.monotonic_s(), "cancelled"
        try:
            status, error = await self._exchange(request, which)
            result = str(status)
        except EndpointError as problem:
            result = type(problem).__name__
            raise
        finally:
            self._metrics.requests.labels(result).observe(self._clock.monotonic_s() - began_s)
        if error is not None:
            raise error

    async def _exchange(self, request: OrderRequest, which: Try) -> tuple[int, EndpointError | None]:
        """The answer's status, and what is wrong with it; raises when there is no whole answer."""
        headers = request.headers | {"Headrace-Try": str(which.number)}
        try:
            async with self._session.post(
                self._settings.url,
                data=request.body,
                headers=headers,
                allow_redirects=False,
                timeout=self._timeout(which),
            ) as answer:
                body = await self._body(answer)
                return answer.status, judged(self.endpoint, answer.status, answer.headers, body, self._clock.now())
        except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError, aiohttp.ConnectionTimeoutError) as problem:
            raise EndpointUnreachable(self.endpoint, f"cannot be reached: {_told(problem)}") from None
        except (aiohttp.ClientError, OSError, EOFError) as problem:
            raise AnswerBroken(self.endpoint, f"gave no whole answer: {_told(problem)}") from None

    def _timeout(self, which: Try) -> aiohttp.ClientTimeout:
        """Name, connection and TLS together; the caller bounds the rest."""
        connect_s = min(self._settings.connect_timeout_s, CONNECT_RATIO * which.timeout_s)
        return aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=math.inf)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        """The answer's body, at most `answer_bytes` of it."""
        taken = bytearray()
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            taken += piece
            if len(taken) > self._settings.answer_bytes:
                answer.close()  # the rest is not wanted, and the connection is good for nothing else
                break
        return bytes(taken[: self._settings.answer_bytes])


@asynccontextmanager
async def opened(
    settings: AdapterSettings, trust: Trust, metrics: AdapterMetrics, clock: Clock
) -> AsyncIterator[ShopClient]:
    """A client whose connections are closed after the body; `trust` is what `trust_of` gave."""
    # A connection that the endpoint closes in this very moment leaves open whether it has taken the event.
    keeps = settings.keepalive_s > 0 and settings.idempotent
    connector = aiohttp.TCPConnector(
        # As many connections as calls, so that no call waits for one inside of its time.
        limit=settings.pool.slots,
        # aiohttp takes one of these two, not both.
        keepalive_timeout=settings.keepalive_s if keeps else None,
        force_close=not keeps,
        ttl_dns_cache=int(settings.dns_cache_s),
        use_dns_cache=settings.dns_cache_s > 0,
        ssl=trust,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT} | _credentials(settings),
        trust_env=False,
        auto_decompress=False,
    )
    async with session:
        yield ShopClient(settings, session, metrics, clock)
    # TLS connections say goodbye in a turn of the loop of their own.
    await asyncio.sleep(0)


def trust_of(settings: AdapterSettings) -> Trust:
    """Which certificates are believed; asked at start, so that a wrong path stops the worker and no order dies of it.

    Raises:
        SettingsError: `ca_file` cannot be read.
    """
    if not settings.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"adapter.ca_file: {settings.ca_file} cannot be read as certificates: {error}") from None


def without_query(url: str) -> str:
    """The URL as messages show it: a query may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _credentials(settings: AdapterSettings) -> dict[str, str]:
    token = settings.token.get_secret_value()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _told(problem: BaseException) -> str:
    """The cause, without what aiohttp puts around it (messages are short) and without queries of URLs."""
    cause = getattr(problem, "certificate_error", None) or getattr(problem, "os_error", None) or problem
    return shown(_QUERY.sub("", str(cause)) or type(cause).__name__)
