"""Who gets in, and what becomes of requests that are wrong, too long or too slow."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway import front
from runtime.settings import Settings
from tests.support.aio import run
from tests.support.gateway import connect, free_port, gateway, request, token


@pytest.fixture
def at(kafka_url: str, prefix: str, clean_environment: None) -> Settings:
    del clean_environment
    return Settings.model_validate(
        {
            "prefix": prefix,
            "kafka": {"bootstrap": kafka_url, "idempotence": False},
            "auth": {"secret": "only-for-tests-" + "0" * 32},
            "gateway": {"port": free_port(), "drain_s": 0, "worker_urls": ("http://127.0.0.1:1",)},
        }
    )


def test_a_token_that_is_missing_or_bad_is_refused_with_its_reason(at: Settings):
    stranger = Settings.model_validate({**at.model_dump(), "auth": {"secret": "somebody-else-" + "1" * 32}})
    cases = {
        "": "missing",
        "Authorization: Bearer nonsense\r\n": "malformed",
        "Authorization: Basic YTpi\r\n": "missing",
        f"Authorization: Bearer {token(stranger)}\r\n": "bad_signature",
        f"Authorization: Bearer {token(at, life_s=-10)}\r\n": "expired",
    }

    async def scenario() -> None:
        async with gateway(at):
            for header, reason in cases.items():
                answer = await request(at, f"GET /v1/stream?channels=orders:* HTTP/1.1\r\nHost: x\r\n{header}\r\n")
                assert answer.status == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.headers["content-type"] == "application/problem+json"
                assert (await answer.body())["reason"] == reason
                await answer.close()

    run(scenario())


def test_a_channel_that_the_token_does_not_cover_is_named(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            answer = await connect(at, channels="orders:1,tools:search", granted=("orders:*",))
            assert answer.status == 403
            assert (await answer.body())["channel"] == "tools:search"
            await answer.close()

    run(scenario())


@pytest.mark.parametrize(
    "query", ["", "?channels=", "?channels=a%0Ab", "?channels=a*b", "?channels=orders:*&replay=-1"]
)
def test_a_request_without_sense_is_a_400(at: Settings, query: str):
    async def scenario() -> None:
        async with gateway(at):
            head = f"GET /v1/stream{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(at)}\r\n\r\n"
            answer = await request(at, head)
            assert answer.status == 400
            await answer.close()

    run(scenario())


def test_a_head_that_is_too_long_or_not_http_ends_the_connection(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            long = await request(at, f"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: {'x' * 20_000}\r\n\r\n")
            assert long.status == 431
            garbage = await request(at, "\x16\x03\x01 this is not HTTP\r\n\r\n")
            assert garbage.status == 400
            await long.close()
            await garbage.close()

    run(scenario())


def test_a_head_that_never_ends_is_closed_at_its_deadline(at: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(front, "HEAD_DEADLINE_S", 0.3)

    async def scenario() -> None:
        async with gateway(at):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.gateway.port)
            writer.write(b"GET / HTTP/1.1\r\n")
            async with asyncio.timeout(30):
                for _ in range(4):
                    writer.write(b"X: y\r\n")
                    await asyncio.sleep(0.05)
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 408")
            writer.close()

    run(scenario())


def test_the_page_trades_a_token_for_a_cookie_that_opens_a_stream(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            host = f"127.0.0.1:{at.gateway.port}"
            answer = await post_session(at, token(at), f"http://{host}")
            assert answer.status == 200
            assert (await answer.body())["tenant_id"] == "acme"
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            head = f"Host: {host}\r\nCookie: {cookie.split(';')[0]}\r\n\r\n"
            stream = await request(at, f"GET /v1/stream?channels=orders:* HTTP/1.1\r\n{head}")
            assert (await stream.next()).name == "ready"
            who = await request(at, f"GET /v1/session HTTP/1.1\r\n{head}")
            assert (await who.body())["tenant_id"] == "acme"
            for client in (answer, stream, who):
                await client.close()

    run(scenario())


def test_another_sites_page_cannot_sign_in_or_out(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            answer = await post_session(at, token(at), "https://evil.example")
            assert answer.status == 403
            gone = await request(at, "DELETE /v1/session HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n")
            assert gone.status == 403
            await answer.close()
            await gone.close()

    run(scenario())


def test_pages_carry_the_policy_and_are_revalidated_by_hash(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            page = await request(at, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert page.status == 200
            assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
            assert page.headers["connection"] == "close"
            again = await request(at, f"GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: {page.headers['etag']}\r\n\r\n")
            assert again.status == 304
            missing = await request(at, "GET /static/../auth.py HTTP/1.1\r\nHost: x\r\n\r\n")
            assert missing.status == 404
            assert missing.headers["content-type"] == "application/problem+json"
            for client in (page, again, missing):
                await client.close()

    run(scenario())


def test_tables_need_a_token_and_say_when_no_worker_answers(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            unsigned = await request(at, "GET /v1/tables/tool_latency/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert unsigned.status == 401
            head = f"Host: x\r\nAuthorization: Bearer {token(at)}\r\n\r\n"
            answer = await request(at, f"GET /v1/tables/tool_latency/?from=-5m HTTP/1.1\r\n{head}")
            assert answer.status == 503
            assert answer.headers["retry-after"] == "2"
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            for client in (unsigned, answer):
                await client.close()

    run(scenario())


async def post_session(at: Settings, text: str, origin: str):
    body = json.dumps({"token": text})
    return await request(
        at,
        f"POST /v1/session HTTP/1.1\r\nHost: 127.0.0.1:{at.gateway.port}\r\nOrigin: {origin}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}",
    )
