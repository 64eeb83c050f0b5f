"""Asks workers, or a gateway, about tables: what `headrace tables` shows. Every wait is bounded by ANSWER_S."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from contracts.errors import HeadraceError, QueryError, ServerMissing, SettingsError
from tables.answers import subject_path

# Above what a worker waits for others (worker.peer_timeout_s) and a gateway for workers (gateway.table_timeout_s).
ANSWER_S = 15.0
WORKER_ROOT = "/tables/"
GATEWAY_ROOT = "/v1/tables/"

Answer = dict[str, Any]


class Door(NamedTuple):
    """Where tables may be asked: a process, and the path below which it has them."""

    url: str
    root: str


def doors_of(url: str) -> tuple[Door, ...]:
    """What stands behind a URL may be a worker or a gateway."""
    bare = url.rstrip("/")
    return Door(bare, WORKER_ROOT), Door(bare, GATEWAY_ROOT)


class TableClient:
    """Asks the first door that answers, and stays with it. Use as an async context."""

    def __init__(self, doors: Sequence[Door], token: str) -> None:
        self._doors = list(doors)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def tables(self) -> list[Answer]:
        """The tables that there are."""
        return list((await self._get("", {}))["tables"])

    async def table(self, name: str) -> Answer:
        """One of them. Raises SettingsError when there is none of this name."""
        tables = {table["name"]: table for table in await self.tables()}
        if name not in tables:
            raise SettingsError(f"TABLE: must be one of {', '.join(sorted(tables))} (got {name[:80]!r})")
        return dict(tables[name])

    async def rows(self, name: str, key: Sequence[str], params: Mapping[str, str]) -> Answer:
        """One page of rows, as JSON.

        Raises:
            QueryError: a parameter breaks a limit.
            ServerMissing: nobody answers, or tables are being restored.
            SettingsError: the token is refused, or there is no such table.
        """
        return await self._get(f"{quote(name, safe='')}/{subject_path(key)}", params)

    async def pages(self, name: str, key: Sequence[str], params: Mapping[str, str]) -> AsyncIterator[Answer]:
        """All pages, from the first on, of one and the same time range."""
        asked = dict(params)
        while True:
            page = await self.rows(name, key, asked)
            yield page
            if page["next"] is None:
                return
            asked |= {field: page[field] for field in ("from", "to") if field in page} | {"after": page["next"]}

    async def _get(self, path: str, params: Mapping[str, str]) -> Answer:
        refusals: list[HeadraceError] = []
        for door in list(self._doors):
            try:
                answer = await self._ask(door, path, params)
            except ServerMissing as error:
                refusals.append(error)
                continue
            if answer is not None:
                self._doors = [door, *(other for other in self._doors if other != door)]
                return answer
        if refusals:
            raise refusals[0]
        urls = ", ".join(dict.fromkeys(door.url for door in self._doors))
        raise SettingsError(f"--url: neither a worker nor a gateway answers at {urls or 'no URL'}")

    async def _ask(self, door: Door, path: str, params: Mapping[str, str]) -> Answer | None:
        """None when this door leads to something else."""
        assert self._session is not None  # noqa: S101 - the context gives it
        address = URL(door.url + door.root + path, encoded=True).update_query(params)
        try:
            async with self._session.get(address, headers=self._headers, allow_redirects=False) as response:
                body = await response.read()
        except (OSError, ValueError, TimeoutError, aiohttp.ClientError) as error:
            raise _missing(door, str(error) or type(error).__name__, "start a worker, or name one with --url") from None
        return _read(door, response.status, body)


def _read(door: Door, status: int, body: bytes) -> Answer | None:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if status == HTTPStatus.NOT_FOUND and not (isinstance(said, dict) and "no table" in str(said.get("detail"))):
        return None
    if not isinstance(said, dict):
        raise _missing(door, f"answered {status} without JSON", "is it a worker or a gateway?")
    if status == HTTPStatus.OK:
        return said
    detail = str(said.get("detail", status))
    if status == HTTPStatus.BAD_REQUEST and "field" in said:
        raise QueryError(str(said["field"]), str(said.get("limit")), said.get("value"))
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise _missing(door, detail + _progress(said), "ask again in a moment")
    raise SettingsError(f"{door.url} answered {status}: {detail}")


def _progress(said: Answer) -> str:
    progress = said.get("progress")
    if not isinstance(progress, dict) or not progress.get("rows_to_replay"):
        return ""
    done, left = progress["rows_replayed"], progress["rows_to_replay"]
    return f" ({done:,} of {done + left:,} changelog records replayed)"


def _missing(door: Door, reason: str, remedy: str) -> ServerMissing:
    return ServerMissing("tables", door.url + door.root, reason, remedy)
