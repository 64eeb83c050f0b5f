"""A control process dies at every step of a requeue, or sleeps through another's; each letter has one effect."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from runtime.settings import Settings
from streams import letter_moves, postgres, topics
from streams.dead_letters import DeadLetters, rows_recovered
from streams.kafka_log import Cluster
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from tests.support.aio import run
from tests.support.gateway import free_port
from tests.support.letters import RuleKeepingConsumer, record_letter, row_letter
from tests.support.outbox import insert, payload
from tests.support.processes import environment_of

CHILD = Path(__file__).with_name("requeuer_child.py")
LETTERS = 60
ROWS = 5
DEADLINE_S = 60.0


@contextmanager
def control(settings: Settings, point: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**environment_of(settings), "HEADRACE_CONTROL__PORT": str(free_port())}
    process = subprocess.Popen([sys.executable, CHILD, point], env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def asked(settings: Settings, letters: DeadLetters) -> None:
    """Letters of Kafka and of the outbox, and the order to send them again."""
    cluster = Cluster(settings.kafka)
    await cluster.start()
    await topics.ensure(cluster, settings)
    await cluster.stop()
    connection = await asyncpg.connect(settings.postgres.url)
    try:
        await letters.bury([record_letter(n, partition=n % 2, key=b"") for n in range(LETTERS)])
        for number in range(ROWS):
            row_id = await insert(connection, payload(str(number)))
            created_at = await connection.fetchval("SELECT created_at FROM outbox WHERE id = $1", row_id)
            await letters.bury([row_letter(row_id, created_at)])
        await connection.execute("UPDATE outbox SET processed = true")
        for source in ("orders", "relay"):
            which, order = LetterFilter(source=source), Order("ann", "a test", 1000)
            assert await letter_moves.requeue(connection, which, order, rate_per_s=10_000)
    finally:
        await connection.close()


async def lease_is_over(settings: Settings) -> None:
    """As ten seconds after a death: the lease only saves work, and is waited for below."""
    connection = await asyncpg.connect(settings.postgres.url)
    await connection.execute("UPDATE headrace.requeuer SET until = '-infinity'")
    await connection.close()


async def relayed(connection: asyncpg.Connection) -> list[int]:
    """What the relay does with armed rows: mark them, and say that they are recovered, in one transaction."""
    async with connection.transaction():
        rows = await connection.fetch("SELECT id, created_at FROM outbox WHERE processed IS NOT TRUE FOR UPDATE")
        await connection.execute("UPDATE outbox SET processed = true WHERE id = ANY($1)", [row["id"] for row in rows])
        await connection.execute("DELETE FROM headrace.hold WHERE outbox_id = ANY($1)", [row["id"] for row in rows])
        await rows_recovered(connection, [(row["id"], row["created_at"]) for row in rows])
    return [row["id"] for row in rows]


async def drained(settings: Settings, consumer: RuleKeepingConsumer) -> list[int]:
    """Consume and relay until every letter is recovered; the rows that were published."""
    connection = await asyncpg.connect(settings.postgres.url)
    published: list[int] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while await connection.fetchval("SELECT count(*) FROM headrace.dead_letter WHERE state <> 'recovered'"):
                await consumer.consume()
                published += await relayed(connection)
                await asyncio.sleep(0.05)
        return published
    finally:
        await connection.close()


def test_control_processes_that_die_at_each_step_in_turn_leave_one_effect_for_each_letter(settings: Settings):
    async def main() -> None:
        async with postgres.pool(settings.postgres, name="test", size=2) as pool:
            letters = DeadLetters(pool, settings.postgres)
            consumer = RuleKeepingConsumer(settings, letters)
            await asked(settings, letters)
            for point in ("numbered", "armed", "sent", "noted"):
                with control(settings, point) as dying:
                    assert await asyncio.to_thread(dying.wait, DEADLINE_S) == -signal.SIGKILL, point
                await lease_is_over(settings)
            with control(settings, "none"):
                published = await drained(settings, consumer)
        assert consumer.repeats > 0, "nothing was sent twice: this test proves nothing"
        _one_effect_each(consumer, published)

    run(main(), 6 * DEADLINE_S)


def test_a_control_process_that_slept_through_another_ones_work_changes_nothing(settings: Settings):
    async def main() -> None:
        async with postgres.pool(settings.postgres, name="test", size=2) as pool:
            letters = DeadLetters(pool, settings.postgres)
            consumer = RuleKeepingConsumer(settings, letters)
            await asked(settings, letters)
            with control(settings, "frozen") as sleeper:
                await asyncio.to_thread(os.waitpid, sleeper.pid, os.WUNTRACED)
                with control(settings, "none"):
                    published = await drained(settings, consumer)
                    before = consumer.repeats
                    sleeper.send_signal(signal.SIGCONT)
                    async with asyncio.timeout(DEADLINE_S):
                        while consumer.repeats == before:  # until it has sent what it had read
                            await consumer.consume()
        _one_effect_each(consumer, published)

    run(main(), 2 * DEADLINE_S)


def _one_effect_each(consumer: RuleKeepingConsumer, published: list[int]) -> None:
    assert sorted(consumer.effects) == sorted(record_letter(n).payload for n in range(LETTERS))
    assert sorted(published) == list(range(1, ROWS + 1))
