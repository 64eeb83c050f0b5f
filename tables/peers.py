"""Asks other workers for their partitions' rows, over the same address that people use.

A question with the header Headrace-Partitions is answered with shares (tables.shares) of those partitions, by the asked
worker alone. It carries the caller's token: a worker trusts no other about who is asking.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import msgspec

from contracts.errors import QueryError
from tables import shares
from tables.shares import CONTENT_TYPE, Missing, Page, Part

if TYPE_CHECKING:
    from tables.query import Query

PARTITIONS = "Headrace-Partitions"
MOST_BYTES = 67_108_864
_SHOWN_CHARS = 120


class Refusal(msgspec.Struct):
    """What a worker says of a question that it cannot answer; members of its problem+json."""

    field: str
    limit: str
    value: str


class Peers:
    """Owns a session of client connections; close it with `stop`."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, url: str, query: Query, wanted: frozenset[int], token: str) -> Part:
        """What the worker at `url` has of `wanted`; waits at most `timeout_s`, and tells a failure as missing."""
        if self._session is None:
            # Not more than one connection to each worker for each question, and none kept for one that is gone.
            self._session = aiohttp.ClientSession(read_bufsize=1_048_576)
        headers = {"Authorization": f"Bearer {token}", PARTITIONS: partitions_text(wanted)}
        address = f"{url.rstrip('/')}/tables/{quote(query.kind.name)}/"
        params = query.params()
        if query.after is not None:
            params["after"] = query.cursor(query.after)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.get(address, params=params, headers=headers, allow_redirects=False) as response,
            ):
                body = await _whole(response)
                return await asyncio.to_thread(_part, response, body, query, wanted)
        except TimeoutError:
            return nothing(wanted, f"its worker did not answer within {self._timeout_s:g} s")
        except (OSError, ValueError, aiohttp.ClientError) as error:
            return nothing(wanted, f"its worker gave no answer: {str(error) or type(error).__name__}")


def nothing(wanted: frozenset[int], why: str) -> Part:
    """No partition, for one reason."""
    missing = tuple(Missing(partition, why[:_SHOWN_CHARS]) for partition in sorted(wanted))
    return Part(Page(frozenset(), more=False, shares=()), missing)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
    return bytes(body)


def _part(response: aiohttp.ClientResponse, body: bytes, query: Query, wanted: frozenset[int]) -> Part:
    if response.status == HTTPStatus.BAD_REQUEST:
        refused = msgspec.json.decode(body, type=Refusal)
        raise QueryError(refused.field, refused.limit, refused.value)
    if response.status != HTTPStatus.OK or response.content_type != CONTENT_TYPE:
        raise ValueError(f"status {response.status}, {response.content_type}")
    part = shares.decode(body, query.kind.fold)
    told = part.page.partitions | {gone.partition for gone in part.missing}
    if told != wanted:
        raise ValueError(f"it speaks of partitions {sorted(told)}, asked for {sorted(wanted)}")
    return part


def partitions_text(partitions: frozenset[int]) -> str:
    """Partitions as the header has them."""
    return ",".join(map(str, sorted(partitions)))


def partitions_of(text: str) -> frozenset[int]:
    """The partitions in a header. Raises ValueError."""
    return frozenset(int(number) for number in text.split(",") if number)
