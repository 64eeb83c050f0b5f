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
    """One tenant's tool latency rows as one worker gives them for all; ValueError when it cannot say or some miss."""
    headers = {"Authorization": f"Bearer {token}"}
    params = {"tenant": tenant, "from": "-30m", "limit": "10000"}
    rows: list[dict[str, object]] = []
    while True:
        async with client.get(f"{url}/tables/tool_latency/", params=params, headers=headers) as response:
            if response.status != HTTPStatus.OK:
                raise ValueError(f"{url} answered {response.status}: {(await response.text())[:200]}")
            answer = await response.json()
        if answer["partial"]:
            raise ValueError(f"{url} misses {answer['missing']}")
        rows += answer["rows"]
        if answer["next"] is None:
            return rows
        params |= {"from": answer["from"], "to": answer["to"], "after": answer["next"]}


async def all_rows(client: Client, urls: Sequence[str], tokens: dict[str, str]) -> list[dict[str, object]] | None:
    """The rows of all tenants (token by tenant id) from the first worker that has them; None when none can say now."""
    for url in urls:
        asked = [table_rows(client, url, token, tenant) for tenant, token in tokens.items()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NETWORK_ERRORS):
                raise answer
        if not any(isinstance(answer, BaseException) for answer in answers):
            return [row for answer in answers if not isinstance(answer, BaseException) for row in answer]
    return None
