"""Rows for the relay, and a recount of what became of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import asyncpg

from contracts.names import Mode, Stream, redis_stream
from contracts.outbox import OutboxRow
from runtime.settings_relay import RelaySettings
from streams import relay_batch
from streams.redis_log import Entry, RedisLog
from streams.relay_fate import Ground, judge

INSERT = """
INSERT INTO outbox (aggregate_id, aggregate_type, event_type, payload)
SELECT (i * 7919 % $2)::text, 'order', 'order_status', json_build_object(
    'event', 'order_status', 'version', '1.0', 'tenant_id', 't1', 'order_id', (i * 7919 % $2)::text,
    'status', 'created', 'ts', '2026-01-02T03:04:05Z', 'seq', i)
FROM generate_series(1, $1) i"""


def payload(order_id: str = "1", **more: object) -> str:
    """A valid order_status in compat form."""
    return json.dumps(
        {
            "event": "order_status",
            "version": "1.0",
            "tenant_id": "t1",
            "order_id": order_id,
            "status": "created",
            "ts": "2026-01-02T03:04:05Z",
            **more,
        }
    )


def prepare(rows: list[OutboxRow], mode: Mode, prefix: str) -> relay_batch.Batch:
    """What the relay makes of rows when nothing stands before them."""
    readings = relay_batch.read(rows, mode)
    verdicts = judge(relay_batch.waiting(readings, RelaySettings()), Ground(), frozenset())
    return relay_batch.assemble(readings, verdicts, Ground(), prefix)


async def fill(url: str, rows: int, aggregates: int = 40) -> None:
    """Commit `rows` rows of `aggregates` orders, in order of id within each."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(INSERT, rows, aggregates)
    finally:
        await connection.close()


async def insert(connection: asyncpg.Connection, text: str, aggregate_id: str = "1") -> int:
    """One row as the ordering product writes it: `processed` NULL, the payload as it stands. Returns its id."""
    return int(
        await connection.fetchval(
            "INSERT INTO outbox (aggregate_id, aggregate_type, event_type, payload) "
            "VALUES ($1, 'order', 'order_status', $2::text::json) RETURNING id",
            aggregate_id,
            text,
        )
    )


@dataclass(frozen=True)
class Recount:
    """Rows that are in the table but not in the stream, are there twice, or stand behind a later one of their order."""

    lost: int
    doubled: int
    out_of_order: int
    unprocessed: int


CLEAN = Recount(0, 0, 0, 0)


async def entries(redis: RedisLog, prefix: str, stream: Stream = Stream.ORDERS) -> list[Entry]:
    """All entries of a stream."""
    return await redis.read_range(redis_stream(prefix, stream), "-", "+", 1_000_000)


async def recount(url: str, redis: RedisLog, prefix: str) -> Recount:
    """Compare the outbox with the orders stream, id by id; buried rows count as dealt with."""
    connection = await asyncpg.connect(url)
    try:
        committed = {row["id"] for row in await connection.fetch("SELECT id FROM outbox")}
        unprocessed = await connection.fetchval("SELECT count(*) FROM outbox WHERE processed IS NOT TRUE")
        buried = {row["id"] for row in await connection.fetch("SELECT outbox_id AS id FROM headrace.dead_letter")}
    finally:
        await connection.close()
    found = Counter[int]()
    highest: dict[bytes, int] = {}
    out_of_order = 0
    for entry in await entries(redis, prefix):
        row_id, order = int(entry.fields["event_id"]), entry.fields["aggregate_id"]
        out_of_order += row_id < highest.get(order, 0)
        highest[order] = max(row_id, highest.get(order, 0))
        found[row_id] += 1
    return Recount(
        lost=len(committed - buried - found.keys()),
        doubled=sum(found.values()) - len(found) + len(buried & found.keys()),
        out_of_order=out_of_order,
        unprocessed=int(unprocessed),
    )
