"""Write events to the outbox, in the transaction that they tell of.

Where it stands: the first stop of an event's way. A row that is rolled back was never there; a row that is committed is
published by `streams.relay`, in order of id within its aggregate.

That order is the order of the commits only if writers of one aggregate follow each other: an id is given out when the
row is inserted, so of two transactions that insert at the same moment the later to commit may have the lower id. Lock
the aggregate before the first `append`, by its own row (SELECT ... FOR UPDATE) or by `lock_aggregate`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from contracts.codec import Event, decode, encode
from contracts.envelope import valid_traceparent
from contracts.errors import BadText, ContractError, OutOfRange, ServerMissing
from contracts.names import Mode, OutboxId, stream_of
from contracts.outbox import OutboxRow
from contracts.text import has_control

if TYPE_CHECKING:
    from runtime.clock import Clock
    from streams.postgres import Connection
    from streams.redis_log import RedisLog

# The columns' own limits, in characters: found out before PostgreSQL aborts the caller's transaction.
_COLUMN_CHARS = {"aggregate_id": 255, "aggregate_type": 100, "event_type": 100}
_INSERT = """
INSERT INTO outbox (aggregate_id, aggregate_type, event_type, payload, processed, retry_count)
VALUES ($1, $2, $3, $4::text::json, false, 0) RETURNING id, created_at"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || E'\\x1f' || $2, 0))"

# The bell saves the relay a few milliseconds: it is not worth a longer wait, nor one for each commit while Redis hangs.
_RING_TIMEOUT_S = 0.05
_MUTE_S = 1.0


class OutboxWriter:
    """Runs transactions that append to the outbox, and rings the relay's doorbell after each commit.

    Without `redis` no bell is rung, and the relay finds the rows by polling.
    """

    def __init__(self, redis: RedisLog | None, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._mute_until_s = 0.0

    @asynccontextmanager
    async def transaction(self, connection: Connection) -> AsyncIterator[OutboxTransaction]:
        """A transaction (a savepoint inside one that is open) that is committed at the end of the body.

        Only what commits rings: an exception in the body rolls back. After the commit this waits at most 50 ms for
        Redis and never fails for it.
        """
        outbox = OutboxTransaction(connection)
        async with connection.transaction():
            yield outbox
        # Inside an outer transaction nothing is committed yet; polling will find it.
        if outbox.streams and not connection.is_in_transaction():
            await self._ring(outbox.streams)

    async def _ring(self, streams: set[str]) -> None:
        if self._redis is None or self._clock.monotonic_s() < self._mute_until_s:
            return
        try:
            async with asyncio.timeout(_RING_TIMEOUT_S):
                for stream in streams:
                    await self._redis.ring(stream)
        except (ServerMissing, TimeoutError):
            self._mute_until_s = self._clock.monotonic_s() + _MUTE_S


class OutboxTransaction:
    """The outbox within one transaction. `streams` names those that rows were appended for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.streams: set[str] = set()

    async def append(
        self,
        event: Event | str,
        *,
        aggregate_type: str,
        aggregate_id: str,
        event_type: str | None = None,
        traceparent: str | None = None,
    ) -> OutboxRow:
        """See `append`."""
        row = await append(
            self._connection,
            event,
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            event_type=event_type,
            traceparent=traceparent,
        )
        self.streams.add(stream_of(row.aggregate_type, row.event_type).value)
        return row


async def append(
    connection: Connection,
    event: Event | str,
    *,
    aggregate_type: str,
    aggregate_id: str,
    event_type: str | None = None,
    traceparent: str | None = None,
    mode: Mode = "compat",
) -> OutboxRow:
    """Insert an event in the transaction that is open on `connection`, and return its row.

    Args:
        connection: with an open transaction; not committed here.
        event: an event, or its payload as JSON text, which is stored as it stands.
        aggregate_type: e.g. "order"; decides the stream.
        aggregate_id: whose events keep their order.
        event_type: default: the event's own name.
        traceparent: W3C trace context, put into the payload's `meta`; a malformed one is left out.
        mode: how strictly a text is checked.

    Raises:
        ContractError: the event breaks its contract or a column's limit. Nothing was sent: the transaction is intact.
        RuntimeError: no transaction is open, so the event would be published whatever becomes of what it tells.
    """
    if not connection.is_in_transaction():
        raise RuntimeError("append() needs an open transaction: the row must commit together with what it tells of")
    payload = event if isinstance(event, str) else encode(event).decode()
    decoded = decode(payload, mode=mode)
    if trace := valid_traceparent(traceparent):
        payload = with_traceparent(payload, trace)
        decoded = decode(payload, mode=mode)
    event_type = event_type or decoded.event.EVENT
    for field, text in (("aggregate_type", aggregate_type), ("aggregate_id", aggregate_id), ("event_type", event_type)):
        problem = problem_of_column(decoded.event.EVENT, field, text)
        if problem is not None:
            raise problem
    inserted = await connection.fetchrow(_INSERT, aggregate_id, aggregate_type, event_type, payload)
    return OutboxRow(
        OutboxId(inserted["id"]), aggregate_type, aggregate_id, event_type, payload, inserted["created_at"]
    )


async def lock_aggregate(connection: Connection, aggregate_type: str, aggregate_id: str) -> None:
    """Make other writers of this aggregate that call this wait until the open transaction ends."""
    await connection.execute(_LOCK, aggregate_type, aggregate_id)


def with_traceparent(payload: str, traceparent: str) -> str:
    """The payload, a JSON object, with `meta.traceparent` set; as it is when its `meta` is something else."""
    document = json.loads(payload)
    meta = document.get("meta") or {}
    if not isinstance(meta, dict):
        return payload
    document["meta"] = {**meta, "traceparent": traceparent}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def problem_of_column(event: str, field: str, text: str) -> ContractError | None:
    """What keeps a text out of that column of the outbox; None when nothing does."""
    most = _COLUMN_CHARS[field]
    if not 1 <= len(text) <= most:
        return OutOfRange(event=event, field=field, limit=f"must have 1 to {most} characters", value=text)
    if has_control(text):
        return BadText(event=event, field=field, limit="must hold no control character", value=text)
    return None
