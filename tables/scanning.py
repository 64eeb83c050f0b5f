"""Reads the rows that a query asks for from a worker's own partitions, in slices, so that the event loop is not held.

Windows longer than the base are merges of base windows; sliding ones share their work (`tables.sliding`). A page is
read from its first window on and no further than it is long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol

import msgspec

from contracts.errors import QueryError
from tables.query import Query
from tables.row_codec import RowCodec
from tables.rows import WindowKey
from tables.shares import Page, Share, merged
from tables.sliding import Sliding

# Rows or merges until others get their turn: 1 to 5 ms at 20 to 100 us for one with a full histogram.
SLICE_ROWS = 50
# Rows read for one question: 4 to 20 s of work in slices.
MAX_READ_ROWS = 200_000
# Base windows are held as they are until they are told, at 15 to 30 times their size: a page of them ends at 16 MiB.
MAX_PAGE_BYTES = 16_777_216

_encode = msgspec.msgpack.encode


class Rows(Protocol):
    """What is needed of a store; see tables.store.RowStore."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row's value, or None."""
        ...

    def scan(self, partition: int, lower: bytes, upper: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """The rows in [lower, upper), in key order; the partition may be written meanwhile."""
        ...


class Turns:
    """Lets others run after each slice of work, and bounds what is read."""

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._rows = 0
        self._in_slice = 0
        self.read_bytes = 0

    async def read(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Say that rows were read. Raises QueryError when the question is too large."""
        self._rows += len(rows)
        self.read_bytes += sum(len(value) for _, value in rows)
        if self._rows > self._most_rows:
            raise QueryError("from", f"a question may read {self._most_rows} rows at most: ask for less", self._rows)
        await self.worked(len(rows))

    async def worked(self, count: int = 1) -> None:
        """Say that something was done that takes as long as reading `count` rows."""
        self._in_slice += count
        if self._in_slice >= SLICE_ROWS:
            self._in_slice = 0
            await asyncio.sleep(0)


async def read_page(
    query: Query,
    rows: Rows,
    partitions: Iterable[int],
    *,
    most_rows: int = MAX_READ_ROWS,
    page_bytes: int = MAX_PAGE_BYTES,
) -> Page:
    """The first `query.limit` shares behind the cursor, of what these partitions hold.

    Waits for nothing; gives way to other tasks every SLICE_ROWS rows. A page of base windows may end before its limit,
    between two windows, when it has read `page_bytes`.

    Raises:
        QueryError: more than `most_rows` rows would have to be read.
    """
    read = frozenset(partitions)
    if not read:
        return Page(read, more=False, shares=())
    reader, turns = _Reader(query, rows, read), Turns(most_rows)
    merge = partial(merged, fold=query.kind.fold)
    slides: dict[tuple[str, ...], Sliding[Share]] = {}
    found: list[Share] = []
    starts = query.starts()
    pane_ms = math.gcd(query.size_ms, query.step_ms) or 1
    next_ms = starts.start
    for start_ms in starts:
        while next_ms < start_ms + max(1, query.size_ms):
            for subject, share in (await reader.pane(next_ms, pane_ms, turns)).items():
                slides.setdefault(subject, Sliding(merge)).push(next_ms, share)
            next_ms += pane_ms
        found += [share async for share in _window(slides, start_ms, query, turns)]
        if len(found) > query.limit:
            break
        if found and query.size_ms == query.kind.size_ms and turns.read_bytes > page_bytes and start_ms != starts[-1]:
            return Page(read, more=True, shares=found)
    return Page(read, len(found) > query.limit, found[: query.limit])


async def _window(
    slides: dict[tuple[str, ...], Sliding[Share]], start_ms: int, query: Query, turns: Turns
) -> AsyncIterator[Share]:
    """The window that begins at `start_ms`, subject by subject; subjects without rows in it are forgotten."""
    for subject in sorted(slides):
        merges = slides[subject].drop_before(start_ms)
        total = slides[subject].total()
        await turns.worked(merges + 1)
        if total is None:
            del slides[subject]
        elif query.is_after_cursor((start_ms, subject)):
            yield Share(start_ms, subject, total.closed, total.positions, total.state)


class _Reader:
    """Base windows of one tenant, as a query wants them."""

    def __init__(self, query: Query, rows: Rows, partitions: frozenset[int]) -> None:
        self._query = query
        self._rows = rows
        self._partitions = partitions
        self._codec: RowCodec[Any] = RowCodec(query.kind)

    async def pane(self, start_ms: int, length_ms: int, turns: Turns) -> dict[tuple[str, ...], Share]:
        """Shares of [start, start + length) by subject, over all partitions."""
        shares: dict[tuple[str, ...], Share] = {}
        fold = self._query.kind.fold
        for base_ms in range(start_ms, start_ms + length_ms, self._query.kind.size_ms or 1):
            for partition in self._partitions:
                await turns.worked()
                found = self._raw(partition, base_ms)
                while chunk := list(islice(found, SLICE_ROWS)):
                    for share in filter(None, (self._share(partition, key, value) for key, value in chunk)):
                        held = shares.get(share.subject)
                        shares[share.subject] = share if held is None else merged(held, share, fold)
                    await turns.read(chunk)
        return shares

    def _raw(self, partition: int, base_ms: int) -> Iterator[tuple[bytes, bytes]]:
        """One tenant's rows of one base window; only those of a subject where the query names all of its parts."""
        parts = self._query.parts
        if None not in parts:
            key = self._codec.encode_key(WindowKey(self._query.tenant_id, tuple(map(str, parts)), base_ms))
            value = self._rows.get(partition, key)
            return iter(() if value is None else ((key, value),))
        lower = _prefix(self._query, base_ms)
        # Behind it stands a text, whose first byte is below ff.
        return self._rows.scan(partition, lower, lower + b"\xff")

    def _share(self, partition: int, key: bytes, value: bytes) -> Share | None:
        window = self._codec.decode_key(key)
        if window is None or not self._query.covers(window.subject):
            return None
        row = self._codec.decode(value)
        return Share(window.start_ms, window.subject, row.announced >= 0, {partition: row.revision - 1}, row.state)


def _prefix(query: Query, base_ms: int) -> bytes:
    """What the keys of a tenant's rows in one base window begin with, and the leading parts that the query names."""
    fixed: list[Any] = [query.kind.kind, base_ms, query.tenant_id]
    for part in query.parts:
        if part is None:
            break
        fixed.append(part)
    # The array's header counts all fields of the key; the fields' bytes do not depend on it.
    return bytes([0x90 + 3 + len(query.parts)]) + b"".join(map(_encode, fixed))
