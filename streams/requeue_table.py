"""The requeuer's statements: numbering letters, finding those that have not left, and noting that they have."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from contracts.names import OutboxId
from streams import postgres
from streams.dead_letters import headers_of
from streams.kafka_log import partition_for
from streams.requeue_plan import Outcomes

if TYPE_CHECKING:
    from runtime.settings import PostgresSettings
    from streams.postgres import Connection

# What a letter dies of when it can never be sent again.
ROW_GONE = "RowGone"
SEND_REFUSED = "SendRefused"
NO_CONSUMER = "NoConsumer"

_LEAD = """
UPDATE headrace.requeuer SET owner = $1, until = clock_timestamp() + make_interval(secs => $2)
WHERE owner = $1 OR until < clock_timestamp() RETURNING owner"""
_WHO_LEADS = "SELECT owner FROM headrace.requeuer WHERE until > clock_timestamp()"
_ON_THE_WAY = """
SELECT count(*) FROM headrace.dead_letter WHERE state = 'requeued' AND NOT waiting AND topic IS NOT NULL"""
_STEP_BACK = "UPDATE headrace.requeuer SET until = '-infinity' WHERE owner = $1"
_OPEN = """
SELECT requeue.id, requeue.rate_per_s,
    count(*) FILTER (WHERE letter.waiting) AS waiting,
    count(*) FILTER (WHERE letter.state = 'requeued' AND NOT letter.waiting) AS under_way,
    count(*) FILTER (WHERE letter.state = 'recovered') AS recovered,
    count(*) FILTER (WHERE letter.state = 'dead') AS died
FROM headrace.requeue LEFT JOIN headrace.dead_letter AS letter ON letter.requeue_id = requeue.id
WHERE requeue.ended_at IS NULL GROUP BY requeue.id ORDER BY requeue.id"""
_NEXT = """
SELECT id, source, partition, key FROM headrace.dead_letter
WHERE requeue_id = $1 AND state = 'requeued' AND waiting AND (topic IS NULL OR $3::boolean)
ORDER BY requeue_rank LIMIT $2 FOR UPDATE"""
# The rows of requeue_number stay locked until the commit: numbers become visible in their order.
_NUMBER = """
WITH chosen AS MATERIALIZED (
    SELECT id, source, place, rank FROM unnest($1::bigint[], $2::text[], $3::integer[])
    WITH ORDINALITY AS given(id, source, place, rank)
), counted AS (
    SELECT source, place, count(*) AS letters FROM chosen GROUP BY source, place ORDER BY source, place
), counter AS (
    INSERT INTO headrace.requeue_number AS number (source, partition, last_seq)
    SELECT source, place, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + letters FROM counted
    ON CONFLICT (source, partition) DO UPDATE SET last_seq = greatest(excluded.last_seq, number.last_seq + (
        SELECT letters FROM counted WHERE counted.source = number.source AND counted.place = number.partition))
    RETURNING source, partition AS place, last_seq
), ranked AS (
    SELECT id, source, place, row_number() OVER (PARTITION BY source, place ORDER BY rank) AS nth FROM chosen
)
UPDATE headrace.dead_letter AS letter SET waiting = false, requeue_partition = ranked.place,
    requeue_seq = counter.last_seq - counted.letters + ranked.nth
FROM ranked JOIN counted USING (source, place) JOIN counter USING (source, place)
WHERE letter.id = ranked.id"""
_UNSENT_RECORDS = """
SELECT id, source, topic, incarnation, partition, "offset", key, headers, payload, requeue_seq, requeue_partition
FROM headrace.dead_letter
WHERE state = 'requeued' AND NOT waiting AND sent_at IS NULL AND topic IS NOT NULL AND source <> ALL($1::text[])
ORDER BY source, requeue_partition, requeue_seq LIMIT $2"""
_UNSENT_ROWS = """
SELECT id, requeue_seq, outbox_id, outbox_created_at FROM headrace.dead_letter
WHERE state = 'requeued' AND NOT waiting AND sent_at IS NULL AND outbox_id IS NOT NULL
ORDER BY requeue_seq LIMIT $1 FOR UPDATE"""
_SENT = """
UPDATE headrace.dead_letter AS letter SET sent_at = clock_timestamp()
FROM unnest($1::bigint[], $2::bigint[]) AS told(id, seq)
WHERE letter.id = told.id AND letter.requeue_seq = told.seq AND letter.sent_at IS NULL"""
_UNSENDABLE = """
UPDATE headrace.dead_letter SET state = 'dead', last_at = clock_timestamp(), error_class = $3, error_text = $4
WHERE id = ANY($1::bigint[]) AND requeue_seq = ANY($2::bigint[]) AND state = 'requeued' AND NOT waiting"""


class OpenRequeue(NamedTuple):
    """A requeue that runs, and where its letters are."""

    id: int
    rate_per_s: float
    seen: Outcomes


@dataclass(frozen=True)
class UnsentRecord:
    """A numbered letter of a consumer of Kafka, to be sent to partition `target`; the others tell where it stood."""

    id: int
    seq: int
    source: str
    topic: str
    incarnation: str
    partition: int
    offset: int
    target: int
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    payload: bytes


class UnsentRow(NamedTuple):
    """A numbered letter of the relay, whose row is to be published again."""

    id: int
    seq: int
    outbox_id: OutboxId
    created_at: datetime


async def lead(connection: Connection, owner: str, lease_s: float) -> bool:
    """Whether `owner` is the one to send, for `lease_s` from now: it was, or nobody is any more."""
    return await connection.fetchval(_LEAD, owner, lease_s) is not None


async def step_back(connection: Connection, owner: str) -> None:
    """Let another one lead at once."""
    await connection.execute(_STEP_BACK, owner)


async def why_not_at_rest(settings: PostgresSettings) -> str:
    """Why topics must not grow now, as far as requeued letters go; "" when they may. Raises ServerMissing.

    A letter that has a number has its partition, too: it would come to one that no longer owns its key.
    """
    connection = await postgres.connect(settings, name="headrace topics")
    try:
        with postgres.translated(settings):
            if await connection.fetchval(_WHO_LEADS) is not None:
                return "a control process runs: stop all of them (a killed one is over in ten seconds)"
            if count := await connection.fetchval(_ON_THE_WAY):
                return (
                    f"{count} requeued letters are on their way: run a control process and a worker until none is "
                    "(`headrace dead-letters requeues`), or `headrace dead-letters reclaim` those that are lost"
                )
        return ""
    finally:
        await postgres.close(connection)


async def open_requeues(connection: Connection) -> list[OpenRequeue]:
    """The requeues that run, oldest first."""
    return [
        OpenRequeue(
            row["id"], row["rate_per_s"], Outcomes(row["waiting"], row["under_way"], row["recovered"], row["died"])
        )
        for row in await connection.fetch(_OPEN)
    ]


async def number(connection: Connection, requeue_id: int, count: int, *, partitions: int | None) -> int:
    """Number the next `count` letters of a requeue, in its order; how many there were.

    A letter goes to the partition that its key belongs to: the one that it came from, unless the topics were given more
    `partitions` since. While nobody can tell how many they have (None), only rows of the outbox are numbered.
    """
    async with connection.transaction():
        rows = await connection.fetch(_NEXT, requeue_id, count, partitions is not None)
        if rows:
            places = [target_of(row["partition"], bytes(row["key"]), partitions or 1) for row in rows]
            await connection.execute(_NUMBER, [row["id"] for row in rows], [row["source"] for row in rows], places)
        return len(rows)


def target_of(partition: int | None, key: bytes, partitions: int) -> int:
    """The partition of a retry topic that a letter goes to; -1 for one of the outbox, which has none."""
    if partition is None:
        return -1
    return partition_for(key, partitions) if key else partition % partitions


async def unsent_records(connection: Connection, limit: int, *, not_of: Collection[str]) -> list[UnsentRecord]:
    """Letters of Kafka that have a number and have not left, in order of number for each source and partition."""
    return [
        UnsentRecord(
            id=row["id"],
            seq=row["requeue_seq"],
            source=row["source"],
            topic=row["topic"],
            incarnation=row["incarnation"],
            partition=row["partition"],
            offset=row["offset"],
            target=row["requeue_partition"],
            key=bytes(row["key"]),
            headers=headers_of(row["headers"]),
            payload=bytes(row["payload"]),
        )
        for row in await connection.fetch(_UNSENT_RECORDS, list(not_of), limit)
    ]


async def unsent_rows(connection: Connection, limit: int) -> list[UnsentRow]:
    """The same for letters of the outbox, locked until the open transaction ends."""
    return [UnsentRow(*row) for row in await connection.fetch(_UNSENT_ROWS, limit)]


async def sent(connection: Connection, letters: Sequence[tuple[int, int]]) -> None:
    """Note that letters (id, number) have left."""
    await connection.execute(_SENT, [letter[0] for letter in letters], [letter[1] for letter in letters])


async def unsendable(
    connection: Connection, letters: Sequence[tuple[int, int]], *, error_class: str, error_text: str
) -> None:
    """Put numbered letters back to dead that can never leave, with the reason."""
    ids, seqs = [letter[0] for letter in letters], [letter[1] for letter in letters]
    await connection.execute(_UNSENDABLE, ids, seqs, error_class, error_text)
