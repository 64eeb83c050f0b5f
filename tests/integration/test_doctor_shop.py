"""The doctor at the shop system of the adapter: it connects, and tells it nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.checks import shop
from headrace.checks.finding import Finding, Notebook, State
from runtime.settings_adapter import AdapterSettings
from tests.support.aio import run
from tests.support.certificates import needs_openssl, self_signed


async def examined(url: str, **adapter: object) -> Finding:
    found: list[Finding] = []
    chosen = AdapterSettings.model_validate({"url": f"{url}/orders?key=word", **adapter})
    await shop.examine(chosen, Notebook("shop system", found.append))
    (finding,) = found
    assert "word" not in finding.found
    assert finding.remedy or finding.state is State.OK
    return finding


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """A server that notes all that it is told until the other side hangs up."""
    told: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            told.put_nowait(await reader.read())
        except ConnectionError:
            told.put_nowait(b"")
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", told
    finally:
        server.close()


def test_an_address_that_takes_connections_is_well_and_is_sent_nothing():
    async def body() -> None:
        async with listening() as (address, told):
            finding = await examined(f"http://{address}")
            assert (finding.check, finding.state) == ("reachable", State.OK)
            assert await asyncio.wait_for(told.get(), 20) == b""

    run(body())


@needs_openssl
def test_a_certificate_that_is_not_believed_is_a_failure_and_one_that_is_is_none(tmp_path: Path):
    context, certificate = self_signed(tmp_path)

    async def body() -> None:
        async with listening(context) as (address, told):
            refused = await examined(f"https://{address}", connect_timeout_s=20)
            assert (refused.check, refused.state) == ("certificates", State.FAIL)
            taken = await examined(f"https://{address}", ca_file=str(certificate), connect_timeout_s=20)
            assert taken.state is State.OK
            assert await asyncio.wait_for(told.get(), 20) == b""

    run(body())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_shop_that_is_away_or_says_nothing_is_a_warning(scheme: str):
    """Nobody listens; somebody listens who knows nothing of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = 1 if scheme == "http" else silent.getsockname()[1]
        finding = run(examined(f"{scheme}://127.0.0.1:{port}", connect_timeout_s=0.2))
    assert (finding.check, finding.state) == ("reachable", State.WARN)


def test_authorities_that_cannot_be_read_are_a_failure(tmp_path: Path):
    finding = run(examined("https://127.0.0.1:1", ca_file=str(tmp_path / "none.pem")))
    assert (finding.check, finding.state) == ("certificates", State.FAIL)
