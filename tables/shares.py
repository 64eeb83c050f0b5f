"""What one worker knows of a window, and how several workers' knowledge becomes rows. Pure.

Workers exchange shares, not summaries: percentiles cannot be added up, states can. On the wire an answer is MessagePack

    [format, fold's format, [partition, ...], more, [[start ms, subject, closed, {partition: position}, fields], ...],
     [[missing partition, why], ...], [records replayed, records to replay]]
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from tables.fold import Fold, Summary, TableKind
from tables.query import Place, Query, rfc3339
from tables.recovery import Progress
from tables.rows import Subject

FORMAT = 1
CONTENT_TYPE = "application/vnd.headrace.shares+msgpack"

# A row as people get it: names to flat values.
Line = Summary


@dataclass(frozen=True)
class Share:
    """One subject's window, as far as some partitions know it."""

    start_ms: int
    subject: Subject
    closed: bool
    """Every base window in it was closed."""
    positions: Mapping[int, int]
    """The newest source position in it, for each partition."""
    state: Any
    """The fold's."""

    @property
    def place(self) -> Place:
        """Where it stands in the answer."""
        return self.start_ms, self.subject

    @property
    def revision(self) -> int:
        """Grows with every change of the window: the newest positions plus one, over all partitions."""
        return sum(position + 1 for position in self.positions.values())


class Page(NamedTuple):
    """Shares in the order of the answer, without gaps up to its end; `more` stand behind it."""

    partitions: frozenset[int]
    """Those that were read."""
    more: bool
    shares: Sequence[Share]


class Missing(NamedTuple):
    """A partition that an answer lacks, and why."""

    partition: int
    why: str


NO_PROGRESS = Progress(0, 0)


class Part(NamedTuple):
    """What one worker gives."""

    page: Page
    missing: tuple[Missing, ...] = ()
    progress: Progress = NO_PROGRESS


class WireShare(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A Share with its state packed by its fold."""

    start_ms: int
    subject: Subject
    closed: bool
    positions: dict[int, int]
    fields: list[Any]


class WirePart(msgspec.Struct, array_like=True, frozen=True):
    """A Part on the wire."""

    format: int
    fold_format: int
    partitions: frozenset[int]
    more: bool
    shares: list[WireShare]
    missing: tuple[Missing, ...]
    progress: Progress


def encode(part: Part, fold: Fold[Any]) -> bytes:
    """A worker's part as another worker reads it."""
    page = part.page
    packed = [
        WireShare(s.start_ms, s.subject, s.closed, dict(s.positions), list(fold.pack(s.state))) for s in page.shares
    ]
    return msgspec.msgpack.encode(
        WirePart(FORMAT, fold.format, page.partitions, page.more, packed, part.missing, part.progress)
    )


def decode(raw: bytes, fold: Fold[Any]) -> Part:
    """Another worker's part.

    Raises:
        ValueError: it is none, or of a release whose states mean something else.
    """
    try:
        wire = _parts.decode(raw)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no answer of a worker: {error}") from None
    if (wire.format, wire.fold_format) != (FORMAT, fold.format):
        raise ValueError(f"format {wire.format}/{wire.fold_format}, this worker reads {FORMAT}/{fold.format}")
    unpacked = [Share(s.start_ms, s.subject, s.closed, s.positions, fold.unpack(s.fields)) for s in wire.shares]
    return Part(Page(wire.partitions, wire.more, unpacked), wire.missing, wire.progress)


_parts = msgspec.msgpack.Decoder(WirePart)


def merged(left: Share, right: Share, fold: Fold[Any]) -> Share:
    """Two shares of one window (other partitions, or other parts of its time); neither is changed."""
    positions = dict(left.positions)
    for partition, position in right.positions.items():
        positions[partition] = max(position, positions.get(partition, -1))
    state = fold.merge(left.state, right.state)
    return Share(left.start_ms, left.subject, left.closed and right.closed, positions, state)


def gathered(pages: Sequence[Page], query: Query) -> Page:
    """Pages of several workers as one of at most `query.limit` shares.

    Each holds its first `limit` shares or, when it says that there are more, fewer: what stands behind the end of such
    a page is not complete.
    """
    together: list[Share] = []
    end = min((page.shares[-1].place for page in pages if page.more and page.shares), default=None)
    for share in heapq.merge(*(page.shares for page in pages), key=lambda share: share.place):
        if end is not None and share.place > end:
            break
        if together and together[-1].place == share.place:
            together[-1] = merged(together[-1], share, query.kind.fold)
        elif len(together) == query.limit:
            return Page(_read(pages), more=True, shares=together)
        else:
            together.append(share)
    return Page(_read(pages), any(page.more for page in pages), together)


def line_of(share: Share, query: Query, *, over_ms: int, kept_from_ms: int) -> Line:
    """A row as people get it. Base windows may be still to come behind `over_ms`, and be gone before `kept_from_ms`."""
    kind, end_ms = query.kind, share.start_ms + query.size_ms
    summary = kind.fold.summarise(share.state)
    line: Line = {"tenant_id": query.tenant_id}
    line.update(zip(kind.parts, share.subject, strict=True))
    if query.size_ms:
        line |= {"window_start": rfc3339(share.start_ms), "window_end": rfc3339(end_ms)}
    line |= {column.name: summary[column.name] for column in kind.columns}
    if query.size_ms:
        longer = query.size_ms > kind.size_ms
        # A base window that is still to come has no share that could say so.
        line["closed"] = share.closed and not (longer and end_ms > over_ms)
        line["whole"] = not (longer and share.start_ms < kept_from_ms)
    return line | {"revision": share.revision}


def line_names(kind: TableKind[Any]) -> list[str]:
    """The names in a line, in order."""
    names = ["tenant_id", *kind.parts]
    names += ["window_start", "window_end"] if kind.size_ms else []
    names += [column.name for column in kind.columns]
    return [*names, *(("closed", "whole") if kind.size_ms else ()), "revision"]


def _read(pages: Sequence[Page]) -> frozenset[int]:
    return frozenset[int]().union(*(page.partitions for page in pages))
