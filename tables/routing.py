"""Who has the rows that a query asks for: this worker, the owner of a key, or all workers together.

Where it stands: `tables.views` hands it a query; `tables.scanning` reads what is here, `tables.peers` asks the others;
`tables.shares` makes one page of it.

1. The source's key (tenant, first part of the subject) decides the partition, as it does for the producer; so a query
   that names that part needs one partition. Faust's own routing hashes the row's key, window and all, and is wrong.
2. Owners come from the consumer group's last assignment, the same on all members.
3. Each owner is asked at the same time, with the caller's own token, for named partitions: one that is asked so asks
   nobody else, so that two workers that disagree about an owner cannot send a question round in circles.
4. What does not answer in time, is being restored or has moved meanwhile is named in the answer. Nothing at all to show
   is an error: Unanswered.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakValueDictionary

from contracts.names import TenantId
from contracts.routing import subject_key
from tables.fold import TableKind
from tables.query import Query
from tables.recovery import Progress
from tables.rows import Subject
from tables.scanning import Rows, read_page
from tables.shares import NO_PROGRESS, Line, Missing, Page, Part, gathered

if TYPE_CHECKING:
    from tables.peers import Peers


class LocalRows(Protocol):
    """What this worker has of a Faust table; see tables.window_table.WindowTable."""

    @property
    def rows(self) -> Rows:
        """The store."""
        ...

    @property
    def active(self) -> frozenset[int]:
        """Partitions that are owned here and restored."""
        ...

    @property
    def progress(self) -> Progress:
        """How far the restore has come that is under way; zeros when none is."""
        ...


@dataclass(frozen=True)
class Served:
    """A table that can be asked."""

    kind: TableKind[Any]
    local: LocalRows
    retention_ms: int
    """How long its windows are kept, by event time; 0: for ever."""
    compare: Callable[[Mapping[Subject, Any]], Sequence[Line]] | None = None
    """What a whole answer says of its rows together (a table without windows)."""
    ahead_ms: int = 0
    """By how much a tenant's events may be ahead of time; its windows expire so much earlier."""

    lateness_ms: int = 0
    """How long a window's events are waited for behind its end."""

    def kept_from_ms(self, now_ms: int) -> int:
        """Windows that begin before may have expired; 0 when none does."""
        return now_ms + self.ahead_ms - self.retention_ms if self.retention_ms else 0


class Placement(Protocol):
    """Where partitions are."""

    @property
    def partitions(self) -> int:
        """How many each topic has."""
        ...

    @property
    def mine(self) -> str:
        """The URL under which others know this worker."""
        ...

    def partition_of(self, key: bytes) -> int:
        """The partition that a producer gives a key."""
        ...

    def owners(self, table: Served) -> Mapping[int, str]:
        """The URL of each partition's worker; a partition that nobody has is left out."""
        ...


class Gathered(NamedTuple):
    """What all workers gave."""

    page: Page
    missing: tuple[Missing, ...]


class Unanswered(Exception):  # noqa: N818 - a fact about now: ask again later
    """No partition that was asked for could be read."""

    def __init__(self, missing: tuple[Missing, ...], progress: Progress) -> None:
        super().__init__("; ".join(dict.fromkeys(why for _, why in missing)))
        self.missing = missing
        self.progress = progress


# Questions read at the same time: bounds memory, and what folding loses to them.
MAX_READINGS = 4
# Of them one tenant's, so that its heaviest questions keep nobody else waiting.
MAX_READINGS_OF_ONE = 2
RESTORING = "being restored from the changelog"
NOBODY = "no worker has it yet"
MOVED = "moved to another worker meanwhile"


class Router:
    """Finds and gathers rows. Waits at most as long as `peers` waits for one worker."""

    def __init__(self, placement: Placement, peers: Peers) -> None:
        self.placement = placement
        self.peers = peers
        # Only reading takes a turn, never waiting for others: two workers cannot wait for each other.
        self._readings = asyncio.Semaphore(MAX_READINGS)
        self._of_tenant: WeakValueDictionary[TenantId, asyncio.Semaphore] = WeakValueDictionary()

    async def gather(self, table: Served, query: Query, token: str) -> Gathered:
        """The query's page, from wherever its rows are.

        Raises:
            Unanswered: nothing could be read.
            QueryError: too much would have to be read.
        """
        needed = self.needed(query)
        by_url: dict[str, set[int]] = defaultdict(set)
        owners = self.placement.owners(table)
        for partition in needed - table.local.active:
            by_url[owners.get(partition, "")].add(partition)
        here = by_url.pop(self.placement.mine, set()) | (needed & table.local.active)
        asked: list[Awaitable[Part]] = [self.read_here(table, query, here)] if here else []
        nobody = [Missing(partition, NOBODY) for partition in by_url.pop("", ())]
        asked += [self.peers.ask(url, query, frozenset(wanted), token) for url, wanted in by_url.items()]
        parts = await asyncio.gather(*asked)
        # Thousands of merges: in another thread, so that the event loop is not held.
        return await asyncio.to_thread(_together, query, parts, nobody, len(needed))

    def needed(self, query: Query) -> frozenset[int]:
        """The partitions that may hold rows of the query."""
        if query.first_part is None:
            return frozenset(range(self.placement.partitions))
        return frozenset({self.placement.partition_of(subject_key(query.tenant_id, query.first_part))})

    async def read_here(self, table: Served, query: Query, wanted: Iterable[int]) -> Part:
        """What this worker has of `wanted`; the rest is missing. Asks nobody."""
        wanted = frozenset(wanted)
        here = wanted & table.local.active
        turn = self._of_tenant.setdefault(query.tenant_id, asyncio.Semaphore(MAX_READINGS_OF_ONE))
        async with turn, self._readings:
            page = await read_page(query, table.local.rows, here)
        if not here <= table.local.active:
            # A partition that was taken away under the reading may have been read in part.
            return Part(Page(frozenset(), more=False, shares=()), tuple(Missing(p, MOVED) for p in sorted(wanted)))
        missing = tuple(Missing(partition, RESTORING) for partition in sorted(wanted - here))
        return Part(page, missing, table.local.progress if missing else NO_PROGRESS)


def _together(query: Query, parts: list[Part], nobody: list[Missing], needed: int) -> Gathered:
    missing = tuple(sorted([*nobody, *(gone for part in parts for gone in part.missing)]))
    if len(missing) == needed:
        progress = [part.progress for part in parts]
        raise Unanswered(missing, Progress(sum(p.read for p in progress), sum(p.left for p in progress)))
    return Gathered(gathered([part.page for part in parts], query), missing)
