"""What could not be processed, kept in PostgreSQL with its cause, its bytes and its position.

A letter stands for one row of the outbox or one record of a topic, and is unique by it, so that failing again never
makes a second one. The relay buries in the transaction that marks the row (`bury`), a worker before it acknowledges
the record (`DeadLetters`). `streams.letter_store` is what operators do with letters, `streams.requeuer` sends them.

    bury --> dead --requeue--> requeued: waiting --number--> numbered --send--> sent --effects are durable--> recovered
              ^ |                           |                                    |
              | +--discard--> discarded     | cancelled, gave up                 | failed again: attempts grow
              +-----------------------------+------------------------------------+

A number (`requeue_seq`, header hr_seq) is given out once, rising for each consumer and partition. Everything that is
told of a letter after it was numbered names its number, so that what a paused process tells late changes nothing: a
burial without number counts only until the letter was numbered first, one with a number only while that number is out.
The database refuses every other move and writes each one down (migration 0003).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from contracts.names import stream_of
from streams import postgres
from streams.pieces import pieces

if TYPE_CHECKING:
    from runtime.settings import PostgresSettings
    from streams.postgres import Connection, Pool

# Who buries rows of the outbox.
RELAY = "relay"
# An error's text is for people; a longer one is cut.
MAX_ERROR_CHARS = 2000
# What one transaction of a worker buries: a second's work or two, also on a slow disk.
PIECE_LETTERS = 1000
PIECE_BYTES = 16 * 1024 * 1024

_COLUMNS = """source, outbox_id, outbox_created_at, topic, incarnation, partition, "offset", tenant_id, event_type,
    key, headers, payload, error_class, error_text, attempts, stream, requeue_seq"""
_AGAIN = """DO UPDATE SET attempts = letter.attempts + excluded.attempts, last_at = clock_timestamp(),
    state = 'dead', waiting = false, error_class = excluded.error_class, error_text = excluded.error_text"""
_BURY = f"""
INSERT INTO headrace.dead_letter AS letter ({_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::json, $12, $13, $14, $15, $16, $17)
ON CONFLICT """  # noqa: S608  # only constants of this module
# The relay buries once each time it meets a row, with the mark. A discarded row may come again after Redis was lost.
_BURY_ROW = f"""{_BURY} (outbox_id, outbox_created_at) WHERE outbox_id IS NOT NULL {_AGAIN}
WHERE letter.state <> 'discarded'"""
_BURY_RECORD = f"""{_BURY} (source, topic, incarnation, partition, "offset") WHERE topic IS NOT NULL {_AGAIN}
WHERE (excluded.requeue_seq IS NULL AND letter.requeue_seq IS NULL AND letter.state = 'dead')
    OR (excluded.requeue_seq = letter.requeue_seq AND letter.state = 'requeued' AND NOT letter.waiting)"""
_ADD_ROW = f"""{_BURY} (outbox_id, outbox_created_at) WHERE outbox_id IS NOT NULL DO NOTHING RETURNING letter.id"""
_RECOVERED = """
UPDATE headrace.dead_letter AS letter SET state = 'recovered', waiting = false, last_at = clock_timestamp()
FROM unnest($1::bigint[], $2::bigint[]) AS told(id, seq)
WHERE letter.id = told.id AND letter.requeue_seq = told.seq AND letter.state IN ('requeued', 'dead')
RETURNING letter.id"""
_ROWS_RECOVERED = """
UPDATE headrace.dead_letter AS letter SET state = 'recovered', waiting = false, last_at = clock_timestamp()
FROM unnest($1::bigint[], $2::timestamptz[]) AS told(id, created_at)
WHERE letter.state = 'requeued' AND letter.outbox_id = ANY($1::bigint[])
    AND letter.outbox_id = told.id AND letter.outbox_created_at = told.created_at"""


class LetterState(StrEnum):
    """Where a letter is on its way; drawn above."""

    DEAD = "dead"
    REQUEUED = "requeued"
    RECOVERED = "recovered"
    DISCARDED = "discarded"


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One row or record that cannot be processed.

    Either `outbox_id` and `outbox_created_at` are given (by the relay), or `topic`, `partition` and `offset`: where it
    first stood, also when it failed after it was requeued; `incarnation` tells topics of one name apart when the
    cluster was made anew. `attempts` counts the tries of this round; `requeue_seq` is the number of the requeue that
    failed, None when it was not requeued.
    """

    source: str
    tenant_id: str
    event_type: str
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    payload: bytes
    error_class: str
    error_text: str
    attempts: int = 1
    outbox_id: int | None = None
    outbox_created_at: datetime | None = None
    topic: str | None = None
    incarnation: str = ""
    partition: int | None = None
    offset: int | None = None
    requeue_seq: int | None = None

    @property
    def stream(self) -> str:
        """The stream that it came on, or would have gone to."""
        if self.topic is not None:
            return self.topic.rpartition(".")[2]
        aggregate_type = dict(self.headers).get("aggregate_type", b"").decode("utf-8", "replace")
        return stream_of(aggregate_type, self.event_type).value


class Recovered(NamedTuple):
    """The effects of a requeued letter are durable: its id (header hr_letter) and number (hr_seq)."""

    letter_id: int
    seq: int


class DeadLetters:
    """Buries letters over a pool, and tells of those that recovered; for consumers of Kafka."""

    def __init__(self, pool: Pool, settings: PostgresSettings) -> None:
        self._pool = pool
        self._settings = settings

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Make the letters durable before this returns, a piece in each transaction. Idempotent.

        A flush may bring 100,000 of them: in one transaction they could take longer than a statement may, each time.

        Raises:
            ServerMissing: PostgreSQL is down; the caller waits and repeats, and acknowledges nothing
            meanwhile.
        """
        with postgres.translated(self._settings):
            for piece in pieces(
                letters, lambda letter: len(letter.payload), most_bytes=PIECE_BYTES, most_items=PIECE_LETTERS
            ):
                async with self._pool.acquire() as connection, connection.transaction():
                    await bury(connection, piece)

    async def recovered(self, told: Sequence[Recovered]) -> int:
        """Say that requeued letters have had their effect, before they are acknowledged; how many that was news of.

        Idempotent; a number that is no longer the letter's changes nothing. Raises ServerMissing as `bury` does.
        """
        if not told:
            return 0
        with postgres.translated(self._settings):
            async with self._pool.acquire() as connection:
                news = await connection.fetch(_RECOVERED, [one.letter_id for one in told], [one.seq for one in told])
        return len(news)


async def bury(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Add the letters in the caller's transaction; they become durable with it. Idempotent."""
    for statement, of_rows in ((_BURY_ROW, True), (_BURY_RECORD, False)):
        values = [_values(letter) for letter in letters if (letter.outbox_id is not None) is of_rows]
        if values:
            await connection.executemany(statement, values)


async def add_missing(connection: Connection, letters: Sequence[DeadLetter]) -> int:
    """Add letters of rows that have none yet, in the caller's transaction; how many those were."""
    added = [await connection.fetchval(_ADD_ROW, *_values(letter)) for letter in letters]
    return sum(letter_id is not None for letter_id in added)


async def rows_recovered(connection: Connection, rows: Sequence[tuple[int, datetime]]) -> None:
    """Say, in the transaction that marks them, that rows (id, created_at) of the outbox were published.

    Those that were requeued are recovered with it. Cheap for all others: the index holds requeued rows only.
    """
    if rows:
        await connection.execute(_ROWS_RECOVERED, [row[0] for row in rows], [row[1] for row in rows])


def headers_json(headers: Sequence[tuple[str, bytes]]) -> str:
    """Headers as the column holds them; `headers_of` gives the same bytes back."""
    return json.dumps([[name, (value or b"").decode("utf-8", "surrogateescape")] for name, value in headers])


def headers_of(column: str) -> tuple[tuple[str, bytes], ...]:
    """Headers as they were, from the column's text."""
    return tuple((name, value.encode("utf-8", "surrogateescape")) for name, value in json.loads(column))


def _values(letter: DeadLetter) -> tuple[object, ...]:
    return (
        letter.source,
        letter.outbox_id,
        letter.outbox_created_at,
        letter.topic,
        letter.incarnation if letter.topic is not None else None,
        letter.partition,
        letter.offset,
        _text(letter.tenant_id),
        _text(letter.event_type),
        letter.key,
        headers_json(letter.headers),
        letter.payload,
        letter.error_class,
        _text(letter.error_text)[:MAX_ERROR_CHARS],
        letter.attempts,
        letter.stream,
        letter.requeue_seq,
    )


def _text(text: str) -> str:
    # PostgreSQL's text takes neither NUL nor a lone surrogate; what a letter tells must not be what keeps it
    # out.
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
