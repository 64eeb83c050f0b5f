"""What PostgreSQL holds of a tenant is erased: its rows on hold, its letters in any state, and nobody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from contracts.errors import QueryError
from runtime.settings import Settings
from streams import erasure, letter_moves, postgres, requeue_table
from streams.dead_letters import DeadLetters, Recovered
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from streams.postgres import Connection
from tests.support.aio import run
from tests.support.letters import record_letter
from tests.support.outbox import insert, payload

HOLD = """
INSERT INTO headrace.hold
    (outbox_id, created_at, shard, aggregate_type, aggregate_id, payload_bytes, tenant_id, blocked)
SELECT id, created_at, 0, aggregate_type, aggregate_id, 10, $2, $3 FROM outbox WHERE id = $1"""


def on(settings: Settings, body: Callable[[Connection], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = await postgres.connect(settings.postgres, name="test")
        try:
            await body(connection)
        finally:
            await postgres.close(connection)

    run(main())


@pytest.mark.parametrize(("tenant", "reason"), [("_system", "Headrace's own"), ("", "characters"), ("a\n", "control")])
def test_an_id_that_no_tenant_can_have_is_refused(tenant: str, reason: str):
    with pytest.raises(QueryError, match=reason):
        erasure.check_tenant(tenant)


def test_rows_on_hold_are_marked_as_processed_in_whatever_queue_they_stand_and_others_wait_on(settings: Settings):
    async def body(connection: Connection) -> None:
        held = [("t1", "t1", False), ("t1", "t1", True), ("t1", "", False), ("t2", "", False), ("t2", "t1", False)]
        for number, (tenant, queue, blocked) in enumerate(held):
            row_id = await insert(connection, payload(str(number), tenant_id=tenant))
            await connection.execute(HOLD, row_id, queue, blocked)
        assert await erasure.holds(connection, "t1") == 3
        assert await erasure.release_holds(connection, "t1") == 3
        rows = await connection.fetch("SELECT payload::text FROM outbox WHERE processed IS NOT TRUE")
        assert [json.loads(row["payload"])["tenant_id"] for row in rows] == ["t2", "t2"]
        assert await connection.fetchval("SELECT count(*) FROM headrace.hold") == 2
        assert await erasure.release_holds(connection, "t1") == 0

    on(settings, body)


def test_a_relay_that_serves_a_row_at_that_moment_is_waited_for(settings: Settings):
    """It has the row locked, and then takes it off hold: in another order each would wait for the other."""

    async def body(connection: Connection) -> None:
        row_id, blocked = await insert(connection, payload("1")), False
        await connection.execute(HOLD, row_id, "t1", blocked)
        relay = await postgres.connect(settings.postgres, name="relay")
        async with relay.transaction():
            await relay.execute("SELECT FROM outbox WHERE id = $1 FOR NO KEY UPDATE", row_id)
            releasing = asyncio.create_task(erasure.release_holds(connection, "t1"))
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1"
            while not await relay.fetchval(waits, connection.get_server_pid()):  # noqa: ASYNC110 - the server's state
                await asyncio.sleep(0.01)
            await relay.execute("DELETE FROM headrace.hold WHERE outbox_id = $1", row_id)
            await relay.execute("UPDATE outbox SET processed = true WHERE id = $1", row_id)
        assert await releasing == 0, "it was published"
        await postgres.close(relay)

    on(settings, body)


def test_letters_leave_in_any_state_with_a_line_and_without_their_content(settings: Settings):
    async def body(connection: Connection) -> None:
        order = Order("ann", "a test", 10)
        async with postgres.pool(settings.postgres, name="worker", size=1) as pool:
            letters = DeadLetters(pool, settings.postgres)
            await letters.bury([record_letter(n) for n in range(5)])
            await letters.bury([record_letter(9, tenant_id="t2")])
            await letter_moves.discard(connection, LetterFilter(ids=(2,)), order)
            asked = await letter_moves.requeue(connection, LetterFilter(ids=(3, 4, 5)), order, rate_per_s=1)
            assert asked is not None
            await requeue_table.number(connection, asked.requeue_id, 2, partitions=1)
            seq = await connection.fetchval("SELECT requeue_seq FROM headrace.dead_letter WHERE id = 3")
            await letters.recovered([Recovered(3, seq)])
        assert await erasure.letters(connection, "t1") == 5
        assert await erasure.erase_letters(connection, "t1", why="asked to", by="bob") == 5
        left = await connection.fetch("SELECT tenant_id FROM headrace.dead_letter")
        assert [row["tenant_id"] for row in left] == ["t2"]
        gone = await connection.fetch(
            "SELECT from_state, actor, why FROM headrace.dead_letter_audit WHERE to_state = 'erased' ORDER BY letter_id"
        )
        assert [row["from_state"] for row in gone] == ["dead", "discarded", "recovered", "requeued", "requeued"]
        assert {(row["actor"], row["why"]) for row in gone} == {("bob", "asked to")}

    on(settings, body)


def test_nobody_deletes_an_open_letter_without_saying_who_and_why(settings: Settings):
    async def body(connection: Connection) -> None:
        async with postgres.pool(settings.postgres, name="worker", size=1) as pool:
            await DeadLetters(pool, settings.postgres).bury([record_letter(1)])
        await connection.execute("SELECT set_config('headrace.erasing', 'yes', false)")
        with pytest.raises(asyncpg.PostgresError, match="needs a name and a reason"):
            await connection.execute("DELETE FROM headrace.dead_letter")

    on(settings, body)


def test_an_erasure_that_was_begun_is_gone_on_with_until_it_is_done(settings: Settings):
    async def body(connection: Connection) -> None:
        assert await erasure.unfinished(connection, "t1") is None
        job = await erasure.begin(connection, "t1", why="asked to", by="ann")
        assert await erasure.unfinished(connection, "t1") == job
        assert await erasure.unfinished(connection, "t2") is None
        await erasure.end(connection, "t1", why="asked to", by="ann")
        assert await erasure.unfinished(connection, "t1") is None
        assert await erasure.begin(connection, "t1", why="again", by="ann") != job

    on(settings, body)
