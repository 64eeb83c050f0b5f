"""What operators see of dead letters: rows of the tables as values, and the questions that fetch them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from streams.dead_letters import LetterState, headers_of
from streams.letter_filter import MAX_ID

if TYPE_CHECKING:
    from streams.letter_filter import LetterFilter
    from streams.postgres import Connection, Row

# Letters in memory at once: their payloads may be 1 MiB each.
_EXPORT_ROWS = 16

_LETTER = """letter.id, letter.source, letter.stream, letter.state, letter.waiting, letter.tenant_id, letter.event_type,
    letter.topic, letter.incarnation, letter.partition, letter."offset", letter.outbox_id, letter.outbox_created_at,
    letter.error_class, letter.error_text, letter.attempts, letter.requeue_count, letter.first_at, letter.last_at,
    letter.requeue_id, letter.requeue_seq, letter.sent_at, letter.key, octet_length(letter.payload) AS payload_bytes"""
_FIND = f"""
SELECT {_LETTER} FROM headrace.dead_letter AS letter
WHERE {{condition}} AND letter.id < ${{before}} ORDER BY letter.id DESC LIMIT ${{limit}}"""  # noqa: S608 - only constants of this module
_AFTER = f"""
SELECT {_LETTER}, letter.headers, letter.payload FROM headrace.dead_letter AS letter
WHERE {{condition}} AND letter.id > ${{after}} ORDER BY letter.id LIMIT ${{limit}}"""  # noqa: S608 - the same
_ONE = f"SELECT {_LETTER}, letter.headers, letter.payload FROM headrace.dead_letter AS letter WHERE id = $1"  # noqa: S608
_COUNT = "SELECT count(*) FROM headrace.dead_letter AS letter WHERE {condition}"
_HISTORY = """
SELECT at, actor, why, from_state, to_state, requeue_id, requeue_seq, error_class
FROM headrace.dead_letter_audit WHERE letter_id = $1 ORDER BY id DESC LIMIT $2"""
_MOVES = """
SELECT id, letter_id, at, actor, why, from_state, to_state, requeue_id, requeue_seq, error_class
FROM headrace.dead_letter_audit WHERE id < $1 AND ($2::text IS NULL OR actor = $2) ORDER BY id DESC LIMIT $3"""
_SUMMARY = """
SELECT state, source, stream, error_class, count(*) AS letters, min(first_at) AS oldest_at, max(last_at) AS newest_at,
    min(sent_at) AS oldest_sent_at
FROM headrace.dead_letter AS letter WHERE {condition}
GROUP BY state, source, stream, error_class ORDER BY letters DESC, state, source, stream, error_class"""
_REQUEUES = """
SELECT requeue.*, asked::text AS asked_text, counted.* FROM headrace.requeue
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE letter.waiting) AS waiting,
        count(*) FILTER (WHERE letter.state = 'requeued' AND NOT letter.waiting) AS under_way,
        count(*) FILTER (WHERE letter.state = 'recovered') AS recovered,
        count(*) FILTER (WHERE letter.state = 'dead') AS died
    FROM headrace.dead_letter AS letter WHERE letter.requeue_id = requeue.id
) AS counted ON true
WHERE {condition} ORDER BY requeue.id DESC LIMIT $1"""
_REQUEUER_RUNS = "SELECT until > clock_timestamp() FROM headrace.requeuer"


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A letter without headers and payload; times are aware. `waiting`: requeued, and nothing of it has left yet."""

    id: int
    source: str
    stream: str
    state: LetterState
    waiting: bool
    tenant_id: str
    event_type: str
    topic: str | None
    incarnation: str | None
    partition: int | None
    offset: int | None
    outbox_id: int | None
    outbox_created_at: datetime | None
    error_class: str
    error_text: str
    attempts: int
    requeue_count: int
    first_at: datetime
    last_at: datetime
    requeue_id: int | None
    requeue_seq: int | None
    sent_at: datetime | None
    key: bytes
    payload_bytes: int


@dataclass(frozen=True)
class Content:
    """The bytes of a letter."""

    headers: tuple[tuple[str, bytes], ...]
    payload: bytes


@dataclass(frozen=True)
class Move:
    """One line of the audit."""

    at: datetime
    actor: str
    why: str
    from_state: str
    to_state: str
    requeue_id: int | None
    requeue_seq: int | None
    error_class: str | None


@dataclass(frozen=True)
class Group:
    """Letters of one state, source, stream and reason."""

    state: LetterState
    source: str
    stream: str
    error_class: str
    letters: int
    oldest_at: datetime
    newest_at: datetime
    oldest_sent_at: datetime | None


@dataclass(frozen=True)
class Requeue:
    """A requeue as it was asked for, and where its letters are; `outcome` is None while it runs.

    A letter that is part of a later requeue is counted there only.
    """

    id: int
    actor: str
    why: str
    asked: str
    automatic: bool
    rate_per_s: float
    letter_count: int
    asked_at: datetime
    outcome: str | None
    ended_at: datetime | None
    waiting: int
    under_way: int
    recovered: int
    died: int


async def find(connection: Connection, which: LetterFilter, *, limit: int, before_id: int = MAX_ID) -> list[Letter]:
    """Up to `limit` letters with ids below `before_id`, newest first."""
    condition, values = which.condition()
    text = _FIND.format(condition=condition, before=len(values) + 1, limit=len(values) + 2)
    return [_letter(row) for row in await connection.fetch(text, *values, min(before_id, MAX_ID), limit)]


async def one(connection: Connection, letter_id: int) -> tuple[Letter, Content] | None:
    """A letter with its bytes; None when there is none of that id."""
    row = await connection.fetchrow(_ONE, letter_id)
    return None if row is None else (_letter(row), _content(row))


async def count(connection: Connection, which: LetterFilter) -> int:
    """How many letters a filter means."""
    condition, values = which.condition()
    return int(await connection.fetchval(_COUNT.format(condition=condition), *values))


async def history(connection: Connection, letter_id: int, *, limit: int = 100) -> list[Move]:
    """What happened to a letter, newest first; also of one that was purged."""
    return [Move(**row) for row in await connection.fetch(_HISTORY, letter_id, limit)]


async def moves(
    connection: Connection, *, limit: int, before_id: int = MAX_ID, actor: str | None = None
) -> list[tuple[int, int, Move]]:
    """What happened to all letters, newest first: the line's own id, the letter's id, and the move."""
    rows = await connection.fetch(_MOVES, min(before_id, MAX_ID), actor, limit)
    return [(row["id"], row["letter_id"], Move(*list(row.values())[2:])) for row in rows]


async def summary(connection: Connection, which: LetterFilter) -> list[Group]:
    """Letters counted by state, source, stream and reason; the largest group first."""
    condition, values = which.condition()
    rows = await connection.fetch(_SUMMARY.format(condition=condition), *values)
    return [Group(**{**row, "state": LetterState(row["state"])}) for row in rows]


async def after(connection: Connection, which: LetterFilter, letter_id: int) -> list[tuple[Letter, Content]]:
    """The next letters of a filter with their bytes, in order of id; none at the end."""
    condition, values = which.condition()
    text = _AFTER.format(condition=condition, after=len(values) + 1, limit=len(values) + 2)
    rows = await connection.fetch(text, *values, letter_id, _EXPORT_ROWS)
    return [(_letter(row), _content(row)) for row in rows]


async def every(connection: Connection, which: LetterFilter) -> AsyncIterator[tuple[Letter, Content]]:
    """All letters of a filter with their bytes, in order of id, a page at a time: those of the moment each is read."""
    last_id = 0
    while page := await after(connection, which, last_id):
        for letter, content in page:
            yield letter, content
        last_id = page[-1][0].id


async def requeues(connection: Connection, *, limit: int, only_open: bool = False) -> list[Requeue]:
    """The last requeues, newest first."""
    condition = "requeue.ended_at IS NULL" if only_open else "true"
    return [_requeue(row) for row in await connection.fetch(_REQUEUES.format(condition=condition), limit)]


async def requeue(connection: Connection, requeue_id: int) -> Requeue | None:
    """One requeue; None when there is none of that id."""
    rows = await connection.fetch(_REQUEUES.format(condition="requeue.id = $2"), 1, requeue_id)
    return _requeue(rows[0]) if rows else None


async def requeuer_runs(connection: Connection) -> bool:
    """Whether a control process is there that sends what is requeued."""
    return bool(await connection.fetchval(_REQUEUER_RUNS))


def _letter(row: Row) -> Letter:
    fields = {name: row[name] for name in Letter.__dataclass_fields__}
    return Letter(**{**fields, "state": LetterState(row["state"])})


def _content(row: Row) -> Content:
    return Content(headers_of(row["headers"]), bytes(row["payload"]))


def _requeue(row: Row) -> Requeue:
    fields = {name: row[name] for name in Requeue.__dataclass_fields__ if name != "asked"}
    return Requeue(asked=row["asked_text"], **fields)
