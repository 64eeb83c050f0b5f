"""What could not be processed, kept in PostgreSQL with its cause, its bytes and its position.

A letter is unique by the row or record that it stands for: burying it again only counts an attempt. The
relay buries in the transaction that marks the row (`bury`), a worker before it acknowledges the record
(`DeadLetters`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from streams import postgres

if TYPE_CHECKING:
    from runtime.settings import PostgresSettings
    from streams.postgres import Connection, Pool

# An error's text is for people; a longer one is cut.
MAX_ERROR_CHARS = 2000

_COLUMNS = """source, outbox_id, outbox_created_at, topic, incarnation, partition, "offset", tenant_id,
event_type,
    key, headers, payload, error_class, error_text, attempts"""
_AGAIN = """DO UPDATE SET attempts = letter.attempts + excluded.attempts, last_at = clock_timestamp(), state
= 'dead',
    error_class = excluded.error_class, error_text = excluded.error_text"""
_BURY = f"""
INSERT INTO headrace.dead_letter AS letter ({_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::json, $12, $13, $14, $15)
ON CONFLICT """  # noqa: S608  # only constants of this module
_BURY_ROW = f"{_BURY} (outbox_id, outbox_created_at) WHERE outbox_id IS NOT NULL {_AGAIN}"
_BURY_RECORD = f'{_BURY} (source, topic, incarnation, partition, "offset") WHERE topic IS NOT NULL {_AGAIN}'


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One row or record that cannot be processed.

    Either `outbox_id` and `outbox_created_at` are given (by the relay), or `topic`, `partition` and `offset`;
    `incarnation` tells topics of one name apart when the cluster was made anew.
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


class DeadLetters:
    """Buries letters over a pool; for consumers of Kafka."""

    def __init__(self, pool: Pool, settings: PostgresSettings) -> None:
        self._pool = pool
        self._settings = settings

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Make the letters durable, all or none, before this returns. Idempotent.

        Raises:
            ServerMissing: PostgreSQL is down; the caller waits and repeats, and acknowledges nothing
            meanwhile.
        """
        if not letters:
            return
        with postgres.translated(self._settings):
            async with self._pool.acquire() as connection, connection.transaction():
                await bury(connection, letters)


async def bury(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Add the letters in the caller's transaction; they become durable with it. Idempotent."""
    for statement, of_rows in ((_BURY_ROW, True), (_BURY_RECORD, False)):
        values = [_values(letter) for letter in letters if (letter.outbox_id is not None) is of_rows]
        if values:
            await connection.executemany(statement, values)


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
    )


def _text(text: str) -> str:
    # PostgreSQL's text takes neither NUL nor a lone surrogate; what a letter tells must not be what keeps it
    # out.
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
