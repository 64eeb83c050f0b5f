"""What the gateway hands on of a control process that fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster
from tests.support.aio import run
from tests.support.control import ask, token, with_control
from tests.support.gateway import gateway

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def upstream(settings: Settings, says: bytes, *, then_hangs: bool = False) -> AsyncIterator[None]:
    """A control process that says this to whoever asks, and then hangs up or goes silent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        await writer.drain()
        if then_hangs:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", settings.control.port)
    try:
        yield
    finally:
        server.close()


def handed_on(settings: Settings, says: bytes, *, then_hangs: bool = False) -> str:
    """The body that a client gets, or the name of the error that it meets."""
    settings = with_control(settings)
    quick = settings.gateway.model_copy(update={"control_timeout_s": 0.5})
    settings = settings.model_copy(update={"gateway": quick})

    async def main() -> str:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await topics.ensure(cluster, settings)
        await cluster.stop()
        url = f"http://127.0.0.1:{settings.gateway.port}/v1/control/dead-letters/export"
        async with gateway(settings), upstream(settings, says, then_hangs=then_hangs):
            try:
                answer = await ask(url, headers={"Authorization": f"Bearer {token(settings)}"})
            except aiohttp.ClientPayloadError:
                return "cut"
            return f"{answer.status} {answer.body.decode()}"

    return run(main())


def test_a_whole_answer_is_handed_on_as_it_is(settings: Settings):
    assert handed_on(settings, HEAD + b"3\r\nabc\r\n0\r\n\r\n") == "200 abc"


@pytest.mark.parametrize("then_hangs", [False, True])
def test_an_answer_that_is_cut_is_not_handed_on_as_a_whole_one(settings: Settings, then_hangs: bool):  # noqa: FBT001
    assert handed_on(settings, HEAD + b"3\r\nabc\r\n", then_hangs=then_hangs) == "cut"


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"])
def test_no_answer_is_a_503(settings: Settings, says: bytes):
    assert handed_on(settings, says).startswith("503 ")
