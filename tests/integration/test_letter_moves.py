from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import pytest

from contracts.errors import QueryError
from runtime.settings import Settings
from streams import letter_moves, letter_rows, postgres, requeue_table
from streams.dead_letters import DeadLetter, DeadLetters, LetterState, Recovered, bury, rows_recovered
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from tests.support.aio import run
from tests.support.letters import record_letter, row_letter

number = partial(requeue_table.number, partitions=4)
ORDER = Order("ann", "the shop is back", 1000)
ALL = LetterFilter()


class Bench:
    """A database with letters, and short names for what is done to them."""

    def __init__(self, connection: asyncpg.Connection, letters: DeadLetters) -> None:
        self.connection = connection
        self.letters = letters

    async def requeue(self, which: LetterFilter = ALL, order: Order = ORDER) -> int:
        """Requeue and number; how many letters that were."""
        asked = await letter_moves.requeue(self.connection, which, order, rate_per_s=100)
        return 0 if asked is None else await number(self.connection, asked.requeue_id, asked.letters)

    async def states(self) -> list[str]:
        rows = await self.connection.fetch("SELECT state FROM headrace.dead_letter ORDER BY id")
        return [row["state"] for row in rows]

    async def audit(self) -> list[tuple[str, str, str]]:
        rows = await self.connection.fetch(
            "SELECT actor, from_state || '>' || to_state AS move, why FROM headrace.dead_letter_audit ORDER BY id"
        )
        return [tuple(row) for row in rows]

    async def only(self) -> letter_rows.Letter:
        (letter,) = await letter_rows.find(self.connection, ALL, limit=10)
        return letter


def on(settings: Settings, body: Callable[[Bench], Awaitable[None]], *first: DeadLetter) -> None:
    async def main() -> None:
        connection = await postgres.connect(settings.postgres, name="worker-1")
        try:
            async with postgres.pool(settings.postgres, name="worker-1", size=4) as pool:
                letters = DeadLetters(pool, settings.postgres)
                await letters.bury(first)
                await body(Bench(connection, letters))
        finally:
            await postgres.close(connection)

    run(main())


def test_a_letter_that_is_requeued_and_recovers_leaves_a_line_for_each_move(settings: Settings):
    async def body(at: Bench) -> None:
        assert await at.requeue() == 1
        letter = await at.only()
        assert letter.requeue_seq is not None
        assert await at.letters.recovered([Recovered(letter.id, letter.requeue_seq)]) == 1
        assert await at.letters.recovered([Recovered(letter.id, letter.requeue_seq)]) == 0
        assert await at.states() == ["recovered"]
        assert await at.audit() == [
            ("ann", "dead>requeued", "the shop is back"),
            ("worker-1", "requeued>recovered", ""),
        ]

    on(settings, body, record_letter(1))


def test_requeueing_twice_at_the_same_moment_moves_each_letter_once(settings: Settings):
    async def body(at: Bench) -> None:
        async with postgres.pool(settings.postgres, name="test", size=4) as pool:

            async def ask() -> int:
                async with pool.acquire() as connection:
                    asked = await letter_moves.requeue(connection, ALL, ORDER, rate_per_s=1)
                    return asked.letters if asked else 0

            assert sorted(await asyncio.gather(*(ask() for _ in range(4)))) == [0, 0, 0, 50]
        assert len(await at.audit()) == 50

    on(settings, body, *(record_letter(n) for n in range(50)))


def test_a_burial_told_again_after_a_crash_takes_no_requeued_letter_back(settings: Settings):
    """The record was buried, the worker died before it acknowledged, and an operator was quicker than its successor."""

    async def body(at: Bench) -> None:
        await at.requeue()
        await at.letters.bury([record_letter(1)])
        letter = await at.only()
        assert (letter.state, letter.attempts) == ("requeued", 1)
        await at.letters.recovered([Recovered(letter.id, letter.requeue_seq or 0)])
        await at.letters.bury([record_letter(1)])
        assert await at.states() == ["recovered"]

    on(settings, body, record_letter(1))


def test_a_requeue_that_fails_is_the_same_letter_with_more_attempts_however_often_it_is_told(settings: Settings):
    async def body(at: Bench) -> None:
        await at.requeue()
        first = await at.only()
        again = record_letter(1, requeue_seq=first.requeue_seq, attempts=3, error_class="CallTimeout")
        for _ in range(2):
            await at.letters.bury([again])
        died = await at.only()
        assert (died.id, died.state, died.attempts, died.error_class) == (first.id, "dead", 4, "CallTimeout")
        await at.requeue()
        await at.letters.bury([again])  # told a third time, when the next number is out
        assert await at.states() == ["requeued"]

    on(settings, body, record_letter(1))


def test_a_success_that_is_told_after_a_failure_of_the_same_number_counts(settings: Settings):
    """A worker that lost its partition failed; the next owner's effect is durable."""

    async def body(at: Bench) -> None:
        await at.requeue()
        letter = await at.only()
        await at.letters.bury([record_letter(1, requeue_seq=letter.requeue_seq)])
        asked = await letter_moves.requeue(at.connection, ALL, ORDER, rate_per_s=1)
        await at.letters.recovered([Recovered(letter.id, letter.requeue_seq or 0)])
        assert asked is not None
        assert await number(at.connection, asked.requeue_id, 10) == 0
        assert await at.states() == ["recovered"]

    on(settings, body, record_letter(1))


def test_what_is_told_of_an_earlier_number_changes_nothing(settings: Settings):
    """A worker that slept tells late what became of a requeue, after the letter died of it and was requeued again."""

    async def body(at: Bench) -> None:
        await at.requeue()
        first = await at.only()
        await at.letters.bury([record_letter(1, requeue_seq=first.requeue_seq)])
        await at.letters.bury([record_letter(1)])  # not even the burial of the record itself, told once more
        assert (await at.only()).attempts == 2
        await at.requeue()
        assert await at.letters.recovered([Recovered(first.id, first.requeue_seq or 0)]) == 0
        await at.letters.bury([record_letter(1, requeue_seq=first.requeue_seq)])
        assert ((await at.only()).state, (await at.only()).attempts) == ("requeued", 2)

    on(settings, body, record_letter(1))


def test_a_letter_that_died_of_a_number_recovers_by_the_same_number(settings: Settings):
    async def body(at: Bench) -> None:
        await at.requeue()
        letter = await at.only()
        await at.letters.bury([record_letter(1, requeue_seq=letter.requeue_seq)])
        assert await at.letters.recovered([Recovered(letter.id, letter.requeue_seq or 0)]) == 1
        assert await at.states() == ["recovered"]

    on(settings, body, record_letter(1))


def test_a_number_is_never_given_out_twice_and_rises_for_each_consumer_and_partition(settings: Settings):
    async def body(at: Bench) -> None:
        seen: dict[tuple[str, bytes], int] = {}
        for _ in range(3):
            await at.requeue()
            for letter in sorted(
                await letter_rows.find(at.connection, ALL, limit=100), key=lambda one: one.offset or 0
            ):
                place = (letter.source, letter.key)
                assert letter.requeue_seq is not None
                assert letter.requeue_seq > seen.get(place, 0)
                seen[place] = letter.requeue_seq
                failed = record_letter(letter.offset or 0, source=letter.source)
                await at.letters.bury([replace(failed, requeue_seq=letter.requeue_seq)])
            # As if the clock had been days ahead until now.
            await at.connection.execute("UPDATE headrace.requeue_number SET last_seq = last_seq + 10^12::bigint")
            seen = {place: seq + 10**12 for place, seq in seen.items()}
        await at.connection.execute("DELETE FROM headrace.requeue_number")  # as if the database were made anew
        await at.requeue()
        assert min(letter.requeue_seq or 0 for letter in await letter_rows.find(at.connection, ALL, limit=100)) > 10**15

    letters = [
        record_letter(n, source=source, key=b"%d" % (n % 2)) for n in range(8) for source in ("orders", "retrieval")
    ]
    on(settings, body, *letters)


def test_the_oldest_letters_are_chosen_and_leave_in_order_of_their_offsets(settings: Settings):
    async def body(at: Bench) -> None:
        assert await at.requeue(order=replace(ORDER, most=3)) == 3
        chosen = await letter_rows.find(at.connection, LetterFilter(states=(LetterState.REQUEUED,)), limit=10)
        numbered = sorted(chosen, key=lambda letter: letter.requeue_seq or 0)
        assert [letter.offset for letter in numbered] == [3, 7, 9]

    on(settings, body, *(record_letter(offset) for offset in (9, 3, 7, 1)))


def test_letters_that_nobody_takes_back_are_left_alone(settings: Settings):
    async def body(at: Bench) -> None:
        assert await at.requeue() == 1
        assert await at.states() == ["dead", "requeued"]

    on(settings, body, record_letter(1, source="backfill"), record_letter(1))


def test_rows_that_the_relay_published_again_are_recovered_and_others_are_not_touched(settings: Settings):
    async def body(at: Bench) -> None:
        await at.requeue(LetterFilter(ids=(1,)))
        at_2026 = datetime(2026, 1, 1, tzinfo=UTC)
        rows = [(5, at_2026), (6, at_2026), (7, at_2026 + timedelta(seconds=1)), (8, at_2026)]
        await rows_recovered(at.connection, rows)
        assert await at.states() == ["recovered", "dead", "dead"]
        await bury(at.connection, [row_letter(5)])  # met again: Redis had lost it, and its contract is stricter now
        await bury(at.connection, [row_letter(6)])
        assert await at.states() == ["dead", "dead", "dead"]

    on(settings, body, row_letter(5), row_letter(6), row_letter(7))


def test_a_discarded_row_stays_discarded_when_the_relay_meets_it_again(settings: Settings):
    async def body(at: Bench) -> None:
        await letter_moves.discard(at.connection, ALL, ORDER)
        await bury(at.connection, [row_letter(5)])
        assert await at.states() == ["discarded"]

    on(settings, body, row_letter(5))


def test_only_closed_letters_are_purged_and_the_audit_stays(settings: Settings):
    async def body(at: Bench) -> None:
        await letter_moves.discard(at.connection, LetterFilter(ids=(2,)), ORDER)
        assert await letter_moves.purge(at.connection, ALL, Order("bob", "asked to", 10)) == [2]
        assert await at.states() == ["dead"]
        assert await at.audit() == [
            ("ann", "dead>discarded", "the shop is back"),
            ("bob", "discarded>purged", "asked to"),
        ]
        assert [move.to_state for move in await letter_rows.history(at.connection, 2)] == ["purged", "discarded"]

    on(settings, body, record_letter(1), record_letter(2))


def test_what_has_not_left_of_a_cancelled_requeue_is_dead_again(settings: Settings):
    async def body(at: Bench) -> None:
        asked = await letter_moves.requeue(at.connection, ALL, ORDER, rate_per_s=1)
        assert asked is not None
        await number(at.connection, asked.requeue_id, 1)
        assert await letter_moves.cancel(at.connection, asked.requeue_id, Order("bob", "a mistake", 1)) == 2
        assert await at.states() == ["requeued", "dead", "dead"]
        ended = await letter_rows.requeue(at.connection, asked.requeue_id)
        assert ended is not None
        assert (ended.outcome, ended.under_way, ended.died) == ("cancelled", 1, 2)
        assert await at.requeue(LetterFilter(ids=(2, 3))) == 2  # and may be requeued again

    on(settings, body, *(record_letter(n) for n in range(3)))


def test_letters_of_which_nothing_was_heard_can_be_taken_back_after_their_time_only(settings: Settings):
    async def body(at: Bench) -> None:
        await at.requeue()
        letter = await at.only()
        long_ago, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
        assert await letter_moves.reclaim(at.connection, ALL, ORDER, sent_before=later) == []  # it never left
        await requeue_table.sent(at.connection, [(letter.id, letter.requeue_seq or 0)])
        assert await letter_moves.reclaim(at.connection, ALL, ORDER, sent_before=long_ago) == []
        assert await letter_moves.reclaim(at.connection, ALL, ORDER, sent_before=later) == [letter.id]
        assert (await at.only()).error_class == letter_moves.NO_ANSWER

    on(settings, body, record_letter(1))


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE headrace.dead_letter_audit SET actor = 'nobody'", "append-only"),
        ("DELETE FROM headrace.dead_letter_audit", "append-only"),
        ("TRUNCATE headrace.dead_letter_audit", "append-only"),
        ("TRUNCATE headrace.dead_letter CASCADE", "append-only"),
        ("UPDATE headrace.dead_letter SET state = 'discarded' WHERE state = 'dead'", "needs a reason"),
        ("DELETE FROM headrace.dead_letter WHERE state = 'recovered'", "needs a reason"),
        ("DELETE FROM headrace.dead_letter WHERE state = 'dead'", "not possible"),
        ("UPDATE headrace.dead_letter SET state = 'dead' WHERE state = 'discarded'", "not possible"),
        ("UPDATE headrace.dead_letter SET state = 'requeued' WHERE state = 'recovered'", "not possible"),
    ],
)
def test_the_database_refuses_what_would_leave_no_trace(settings: Settings, statement: str, refusal: str):
    async def body(at: Bench) -> None:
        await at.requeue(LetterFilter(ids=(1,)))
        letter = (await letter_rows.find(at.connection, LetterFilter(ids=(1,)), limit=1))[0]
        await at.letters.recovered([Recovered(1, letter.requeue_seq or 0)])
        await letter_moves.discard(at.connection, LetterFilter(ids=(2,)), ORDER)
        with pytest.raises(asyncpg.PostgresError, match=refusal):
            await at.connection.execute(statement)
        assert await at.states() == ["recovered", "discarded", "dead"]

    on(settings, body, *(record_letter(n) for n in range(3)))


@pytest.mark.parametrize("rate", ["0", "'NaN'", "'Infinity'"])
def test_the_database_refuses_a_rate_that_nobody_can_keep(settings: Settings, rate: str):
    async def body(at: Bench) -> None:
        statement = "INSERT INTO headrace.requeue (actor, why, asked, rate_per_s, letter_count) VALUES "
        with pytest.raises(asyncpg.CheckViolationError):
            await at.connection.execute(f"{statement} ('ann', 'x', '{{}}', {rate}, 1)")

    on(settings, body)


def test_every_field_of_a_filter_is_asked_for(settings: Settings):
    ours = {
        "source": "retrieval",
        "tenant_id": "t2",
        "event_type": "seen",
        "error_class": "BadJson",
        "topic": "p.voice",
    }
    names = {"tenant_id": "tenant", "event_type": "type", "error_class": "reason"}
    fields = {names.get(name, name): value for name, value in ours.items() if name != "topic"} | {"stream": "voice"}

    async def body(at: Bench) -> None:
        found = await letter_rows.find(at.connection, LetterFilter(**fields), limit=10)  # type: ignore[arg-type]
        assert [letter.offset for letter in found] == [2]
        for name, value in fields.items():
            assert await letter_rows.count(at.connection, LetterFilter(**{name: value})) == 1, name  # type: ignore[arg-type]
        now = datetime.now(UTC)
        assert await letter_rows.count(at.connection, LetterFilter(since=now - timedelta(hours=1), until=now)) == 2
        assert await letter_rows.count(at.connection, LetterFilter(since=now)) == 0
        assert await letter_rows.count(at.connection, LetterFilter(tenant="' OR true --")) == 0
        pages = [await letter_rows.find(at.connection, ALL, limit=1, before_id=before) for before in (10, 2, 1)]
        assert [[letter.id for letter in page] for page in pages] == [[2], [1], []]
        assert [letter.id async for letter, _content in letter_rows.every(at.connection, ALL)] == [1, 2]

    on(settings, body, record_letter(1), record_letter(2, **ours))  # type: ignore[arg-type]  # fields of a letter


@pytest.mark.parametrize(
    ("actor", "why", "most"), [("", "x", 1), ("a", " ", 1), ("a", "x\ny", 1), ("a", "x", 0), ("a", "x", 100_001)]
)
def test_nobody_moves_letters_without_a_name_a_reason_and_a_limit(actor: str, why: str, most: int):
    with pytest.raises(QueryError):
        Order(actor, why, most)
