"""Questions that `headrace dev` asks over HTTP: is a child ready, and what do the workers' tables say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

import aiohttp

Client = aiohttp.ClientSession

READY_POLL_S = 0.05
ANSWER_S = 3.0
NETWORK_ERRORS = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


def session() -> Client:
    """A client whose every request has a deadline."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))


async def is_ready(client: Client, url: str) -> bool:
    """Whether a /readyz answers 200 now."""
    try:
        async with client.get(url) as response:
            return response.status == HTTPStatus.OK
    except NETWORK_ERRORS:
        return False


async def table_rows(client: Client, url: str, token: str, tenant: str) -> list[dict[str, object]]:
    """One tenant's tool latency rows as one worker has them; ValueError when it cannot say or is still recovering."""
    headers = {"Authorization": f"Bearer {token}"}
    async with client.get(f"{url}/tables/tool_latency/", params={"tenant": tenant}, headers=headers) as response:
        if response.status != HTTPStatus.OK:
            raise ValueError(f"{url} answered {response.status}: {(await response.text())[:200]}")
        answer = await response.json()
    if answer.get("partial"):
        raise ValueError(f"{url} is still recovering its tables")
    return list(answer["rows"])


async def all_rows(client: Client, urls: Sequence[str], tokens: dict[str, str]) -> list[dict[str, object]] | None:
    """The rows of all tenants (token by tenant id) from all workers; None when one of them cannot say now."""
    asked = [table_rows(client, url, token, tenant) for url in urls for tenant, token in tokens.items()]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    rows: list[dict[str, object]] = []
    for answer in answers:
        if isinstance(answer, NETWORK_ERRORS):
            return None
        if isinstance(answer, BaseException):
            raise answer
        rows += answer
    return rows
