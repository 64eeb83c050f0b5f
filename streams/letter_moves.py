"""What operators and policies do with dead letters. Each is one transaction, names who and why, and is audited.

Nothing is sent here: a requeue is an order that `streams.requeuer` carries out. The database checks each move and
refuses one without a reason (migration 0003).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from contracts.errors import QueryError
from contracts.names import Consumer
from streams.dead_letters import RELAY, LetterState

if TYPE_CHECKING:
    from streams.letter_filter import LetterFilter
    from streams.postgres import Connection, Row

MAX_WHY_CHARS = 500
MAX_ACTOR_CHARS = 200
# One transaction, of some ten seconds on a busy machine: a statement may take fifteen.
MAX_LETTERS = 100_000
MAX_RATE_PER_S = 100_000.0
# Who can be given letters back: the relay, and the consumers that have a retry topic.
REQUEUED_TO = frozenset({RELAY, *(consumer.value for consumer in Consumer)})
# What an automatic requeue says that it was asked: which rule it follows.
RULE = "rule"
# What a letter died of when nothing was heard of its requeue.
NO_ANSWER = "NoAnswer"

_NAMED = "SELECT set_config('headrace.actor', $1, true), set_config('headrace.why', $2, true)"
_CHOSEN = """
WITH chosen AS MATERIALIZED (
    SELECT letter.id, letter."offset", letter.outbox_id FROM headrace.dead_letter AS letter
    WHERE {condition} AND {further} AND letter.state = ANY(${states}::text[])
    ORDER BY letter.id LIMIT ${most} FOR UPDATE
)"""
# Oldest letters first when there are more than allowed; among the chosen, those of one partition in order of offset.
_REQUEUE = """, asked AS (
    INSERT INTO headrace.requeue (actor, why, asked, automatic, rate_per_s, letter_count)
    SELECT ${actor}, ${why}, ${asked}::text::json, ${automatic}::boolean, ${rate}::float8, count(*) FROM chosen
    HAVING count(*) > 0 RETURNING id, letter_count
), ranked AS (
    SELECT id, row_number() OVER (ORDER BY "offset", outbox_id, id) AS rank FROM chosen
), moved AS (
    UPDATE headrace.dead_letter AS letter SET state = 'requeued', waiting = true, requeue_id = asked.id,
        requeue_rank = ranked.rank, requeue_count = letter.requeue_count + 1, sent_at = NULL
    FROM asked, ranked WHERE letter.id = ranked.id
)
SELECT id, letter_count FROM asked"""
_TAKEN_BACK = "letter.source = ANY(${sources}::text[])"
_NOT_TAKEN_BACK = """
SELECT DISTINCT letter.source FROM headrace.dead_letter AS letter
WHERE {condition} AND letter.state = 'dead' AND letter.source <> ALL(${sources}::text[]) ORDER BY letter.source"""
_DISCARD = """
UPDATE headrace.dead_letter AS letter SET state = 'discarded', last_at = clock_timestamp()
FROM chosen WHERE letter.id = chosen.id RETURNING letter.id"""
_PURGE = """
DELETE FROM headrace.dead_letter AS letter USING chosen WHERE letter.id = chosen.id RETURNING letter.id"""
_LOST = "NOT letter.waiting AND letter.sent_at < ${before}"
_RECLAIM = """
UPDATE headrace.dead_letter AS letter SET state = 'dead', error_class = ${error_class}, error_text =
    format('sent as number %s at %s, and nothing was heard of it; before: %s', requeue_seq, sent_at, error_text)
FROM chosen WHERE letter.id = chosen.id RETURNING letter.id"""
_CANCEL = """
WITH ended AS (
    UPDATE headrace.requeue SET outcome = $2, ended_at = clock_timestamp() WHERE id = $1 AND ended_at IS NULL
)
UPDATE headrace.dead_letter SET state = 'dead', waiting = false, requeue_count = requeue_count - 1
WHERE requeue_id = $1 AND waiting RETURNING id"""
_END_ALL_DONE = """
UPDATE headrace.requeue SET outcome = 'done', ended_at = clock_timestamp()
WHERE ended_at IS NULL AND NOT EXISTS (
    SELECT FROM headrace.dead_letter AS letter WHERE letter.requeue_id = requeue.id AND letter.state = 'requeued'
)"""


@dataclass(frozen=True)
class Order:
    """Who moves letters, why, and how many at most (the oldest first).

    Raises:
        QueryError: `actor` or `why` is empty or too long, or `most` is not from 1 to MAX_LETTERS.
    """

    actor: str
    why: str
    most: int

    def __post_init__(self) -> None:
        """Check the limits."""
        for name, text, limit in (("actor", self.actor, MAX_ACTOR_CHARS), ("why", self.why, MAX_WHY_CHARS)):
            if not 1 <= len(text.strip()) <= limit or not text.isprintable():
                raise QueryError(name, f"must be 1 to {limit} printable characters on one line", text)
        if not 1 <= self.most <= MAX_LETTERS:
            raise QueryError("limit", f"must be from 1 to {MAX_LETTERS:,}; move the rest with a second one", self.most)


@dataclass(frozen=True)
class Asked:
    """A requeue that was accepted."""

    requeue_id: int
    letters: int


async def requeue(
    connection: Connection, which: LetterFilter, order: Order, *, rate_per_s: float, rule: str | None = None
) -> Asked | None:
    """Order that dead letters are sent again, to the consumer that failed only; None when the filter means none.

    `rule` names the error class whose rule asks for it, when nobody did.

    Letters in any other state are left alone, so asking twice has one effect; so are those of sources that take nothing
    back (REQUEUED_TO).

    Raises:
        QueryError: nobody can keep that rate: the requeuer would stumble over it at each start.
    """
    if not 0 < rate_per_s <= MAX_RATE_PER_S:
        raise QueryError("rate_per_s", f"must be above 0 and at most {MAX_RATE_PER_S:,.0f}", rate_per_s)
    given = {
        "actor": order.actor,
        "why": order.why,
        "asked": json.dumps(which.as_json() if rule is None else {RULE: rule}),
        "automatic": rule is not None,
        "rate": rate_per_s,
        "sources": list(REQUEUED_TO),
    }
    row = await _run(connection, _REQUEUE, which, order, (LetterState.DEAD,), given, _TAKEN_BACK)
    return Asked(row[0]["id"], row[0]["letter_count"]) if row else None


async def not_taken_back(connection: Connection, which: LetterFilter) -> list[str]:
    """Sources of dead letters of a filter that no requeue moves, since nobody takes them back."""
    condition, values = which.condition()
    text = _NOT_TAKEN_BACK.format(condition=condition, sources=len(values) + 1)
    return [row["source"] for row in await connection.fetch(text, *values, list(REQUEUED_TO))]


async def discard(connection: Connection, which: LetterFilter, order: Order) -> list[int]:
    """Give dead letters up for good; their ids. They stay readable until they are purged."""
    return [row["id"] for row in await _run(connection, _DISCARD, which, order, (LetterState.DEAD,))]


async def purge(connection: Connection, which: LetterFilter, order: Order) -> list[int]:
    """Delete letters that were recovered or discarded, bytes and all; their ids. The audit stays."""
    states = (LetterState.RECOVERED, LetterState.DISCARDED)
    return [row["id"] for row in await _run(connection, _PURGE, which, order, states)]


async def reclaim(connection: Connection, which: LetterFilter, order: Order, *, sent_before: datetime) -> list[int]:
    """Take letters back to dead of which nothing was heard since they were sent before `sent_before`; their ids.

    For an operator who knows that they are lost (a topic that was deleted, a consumer that is gone for good): one that
    is only slow may still have its effect, and a letter that is requeued then would have a second.
    """
    given = {"before": sent_before, "error_class": NO_ANSWER}
    return [row["id"] for row in await _run(connection, _RECLAIM, which, order, (LetterState.REQUEUED,), given, _LOST)]


async def cancel(connection: Connection, requeue_id: int, order: Order, *, outcome: str = "cancelled") -> int:
    """End a requeue: what has not left goes back to dead; how many letters that were. What has left stays out."""
    async with connection.transaction():
        await connection.execute(_NAMED, order.actor, order.why)
        return len(await connection.fetch(_CANCEL, requeue_id, outcome))


async def end_finished(connection: Connection) -> None:
    """Close the requeues of which no letter is out any more."""
    await connection.execute(_END_ALL_DONE)


async def _run(
    connection: Connection,
    text: str,
    which: LetterFilter,
    order: Order,
    states: tuple[LetterState, ...],
    given: dict[str, object] | None = None,
    further: str = "true",
) -> list[Row]:
    """Run a move in a transaction of its own, with its reason set for the audit."""
    condition, values = which.condition()
    named: dict[str, object] = {"states": [state.value for state in states], "most": order.most, **(given or {})}
    places = {name: len(values) + number for number, name in enumerate(named, 1)}
    statement = _CHOSEN.format(condition=condition, further=further.format(**places), **places) + text.format(**places)
    async with connection.transaction():
        await connection.execute(_NAMED, order.actor, order.why)
        return list(await connection.fetch(statement, *values, *named.values()))
