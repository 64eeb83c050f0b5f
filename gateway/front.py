"""The one port: reads a request's head, then hands the connection to whoever serves it.

`GET /v1/stream` becomes a stream (`gateway.opening`); everything else goes to aiohttp, with the bytes read so far.
aiohttp then owns the connection for good, so its responses close it (`gateway.rest`): a stream asked for on a
kept-alive connection would reach aiohttp, which spends ten times the memory on it. A head that is too long, too slow
or not HTTP ends here. The only importer of httptools.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

import httptools

from gateway.observed import GatewayMetrics
from gateway.problem import Problem

STREAM_PATH = "/v1/stream"
HEAD_BYTES = 16_384
HEAD_DEADLINE_S = 5.0
# Without it the kernel parks 2.7 MB for a stalled reader before anybody notices; with it 49 KiB.
SEND_BUFFER_BYTES = 32_768
# A peer that vanished without a word is gone within 20 + 3 * 10 s; one that acknowledges nothing within 30 s.
KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))


class Head(NamedTuple):
    """A request without its body. Header names are in lower case, the last of a repeated one counts."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    http11: bool


OpenStream = Callable[[asyncio.Transport, Head], None]
MakeProtocol = Callable[[], asyncio.Protocol]


class Front(asyncio.Protocol):
    """The protocol of a connection until its first request's head is whole."""

    def __init__(self, open_stream: OpenStream, others: MakeProtocol, metrics: GatewayMetrics) -> None:
        self._open_stream = open_stream
        self._others = others
        self._metrics = metrics
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._received = bytearray()
        self._reader = _HeadReader()
        self._parser = httptools.HttpRequestParser(self._reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop: set the socket up and give the head its deadline."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(type(transport))
        self._transport = transport
        _prepare(transport.get_extra_info("socket"))
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HEAD_DEADLINE_S, self._refuse, "slow", Problem(408, "the head took too long"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the client left before its request was whole."""
        del exc
        self._release()

    def data_received(self, data: bytes) -> None:
        """Called by the loop: more of the head; the bytes are kept for aiohttp."""
        if self._transport is None:
            return
        self._received += data
        if not self._reader.complete:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                pass  # aiohttp decides on upgrades
            except httptools.HttpParserError:
                # A fault behind the head is in the body: that is aiohttp's to answer.
                if not self._reader.complete:
                    self._refuse("malformed", Problem(400, "this is not an HTTP/1.1 request"))
                    return
        head_bytes = self._received.find(b"\r\n\r\n") if self._reader.complete else len(self._received)
        if head_bytes > HEAD_BYTES:
            self._refuse("too_large", Problem(431, f"the request's head is longer than {HEAD_BYTES} bytes"))
        elif self._reader.complete:
            self._hand_on()

    def _hand_on(self) -> None:
        transport, received = self._transport, bytes(self._received)
        if transport is None:
            return
        head = self._reader.head(self._parser.get_method(), self._parser.get_http_version())
        self._release()
        if head.path == STREAM_PATH and head.method == "GET":
            try:
                self._open_stream(transport, head)
            except Problem as problem:
                _answer(transport, problem)
            return
        protocol = self._others()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)

    def _refuse(self, reason: str, problem: Problem) -> None:
        self._metrics.refused_heads.labels(reason).inc()
        if self._transport is not None:
            _answer(self._transport, problem)
        self._release()

    def _release(self) -> None:
        """Let go of everything: the connection outlives this object's usefulness by hours."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._transport = None
        self._received = bytearray()


class _HeadReader:
    """Collects what the parser calls out."""

    def __init__(self) -> None:
        self.complete = False
        self._url = b""
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.complete = True

    def head(self, method: bytes, version: str) -> Head:
        path, _, query = self._url.decode("latin-1").partition("?")
        fields = parse_qs(query, keep_blank_values=True)
        return Head(method.decode("latin-1"), unquote(path), fields, self._headers, http11=version == "1.1")


def _answer(transport: asyncio.Transport, problem: Problem) -> None:
    transport.write(problem.response())
    transport.close()


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
