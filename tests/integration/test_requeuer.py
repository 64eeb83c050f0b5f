from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from contracts import requeue
from contracts.errors import ServerMissing
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import growth_journal, letter_moves, letter_rows, postgres, requeue_table, topics
from streams.dead_letters import DeadLetter, DeadLetters
from streams.kafka_log import Cluster, partition_for
from streams.kafka_producer import Producer
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from streams.postgres import Connection
from streams.requeue_metrics import RequeueMetrics
from streams.requeuer import Requeuer
from tests.support.aio import run
from tests.support.letters import INCARNATION, RuleKeepingConsumer, record_letter, retries, row_letter
from tests.support.outbox import insert, payload

ORDER = Order("ann", "the shop is back", 10_000)
ALL = LetterFilter()


class Bench:
    """A requeuer, its letters, and a consumer that keeps the rules."""

    def __init__(self, settings: Settings, connection: Connection, letters: DeadLetters) -> None:
        self.settings = settings
        self.connection = connection
        self.letters = letters
        self.consumer = RuleKeepingConsumer(settings, letters)
        self.requeuers: list[Requeuer] = []

    def requeuer(self) -> Requeuer:
        made = Requeuer(self.settings, SystemClock(), RequeueMetrics(Metrics()))
        self.requeuers.append(made)
        return made

    async def ask(self, rate_per_s: float = 10_000) -> int:
        asked = await letter_moves.requeue(self.connection, ALL, ORDER, rate_per_s=rate_per_s)
        assert asked is not None
        return asked.requeue_id

    async def counts(self) -> dict[str, int]:
        rows = await self.connection.fetch("SELECT state, count(*) AS n FROM headrace.dead_letter GROUP BY state")
        return {row["state"]: row["n"] for row in rows}


def on(settings: Settings, body: Callable[[Bench], Awaitable[None]], *first: DeadLetter) -> None:
    async def main() -> None:
        cluster = Cluster(settings.kafka)
        await cluster.start()
        await topics.ensure(cluster, settings)
        await cluster.stop()
        connection = await postgres.connect(settings.postgres, name="test")
        try:
            async with postgres.pool(settings.postgres, name="worker", size=2) as pool:
                letters = DeadLetters(pool, settings.postgres)
                await letters.bury(first)
                bench = Bench(settings, connection, letters)
                try:
                    await body(bench)
                finally:
                    for made in bench.requeuers:
                        await made.close()
        finally:
            await postgres.close(connection)

    run(main(), 60)


def test_a_letter_comes_to_its_consumer_as_it_was_with_the_place_where_it_first_stood(settings: Settings):
    letter = record_letter(77, partition=3)

    async def body(at: Bench) -> None:
        await at.ask()
        assert await at.requeuer().turn()
        (record,) = await retries(settings)
        place = partition_for(letter.key, settings.kafka.partitions)
        assert (record.partition, record.key, record.value) == (place, letter.key, letter.payload)
        assert requeue.own_headers(record.headers) == letter.headers
        found = requeue.from_headers(record.headers)
        assert found is not None
        assert found.origin == ("p.orders", INCARNATION, 3, 77)
        assert found.letter_id == 1
        assert await retries(settings, "retrieval") == []

    on(settings, body, letter)


def test_the_partition_is_chosen_by_what_the_topics_have_and_not_by_what_is_configured(settings: Settings):
    letter = record_letter(77)
    place = partition_for(letter.key, settings.kafka.partitions)
    other = next(count for count in range(1, 64) if partition_for(letter.key, count) != place)
    kafka = settings.kafka.model_copy(update={"partitions": other})

    async def body(at: Bench) -> None:
        at.settings = settings.model_copy(update={"kafka": kafka})
        await at.ask()
        await at.requeuer().turn()
        (record,) = await retries(settings)
        assert record.partition == place

    on(settings, body, letter)


def test_while_topics_grow_no_letter_is_numbered_but_rows_of_the_outbox_are_armed(settings: Settings):
    async def body(at: Bench) -> None:
        row_id = await insert(at.connection, payload("1"))
        await at.connection.execute("UPDATE outbox SET processed = true")
        created_at = await at.connection.fetchval("SELECT created_at FROM outbox")
        await at.letters.bury([row_letter(row_id, created_at)])
        await _grows(settings)
        await at.ask()
        await at.requeuer().turn()
        assert await at.connection.fetchval("SELECT count(*) FROM outbox WHERE processed IS NOT TRUE") == 1
        (letter,) = await letter_rows.find(at.connection, LetterFilter(source="orders"), limit=2)
        assert (letter.waiting, letter.requeue_seq) == (True, None)

    on(settings, body, record_letter(1))


async def _grows(settings: Settings) -> None:
    cluster, producer = Cluster(settings.kafka), Producer(settings.kafka)
    await cluster.start()
    await topics.create(cluster, settings.kafka, [growth_journal.new_topic(settings)])
    await cluster.stop()
    await producer.start()
    await growth_journal.append(producer, settings, growth_journal.Entry("growing", 4, 8, 0, {}), 0)
    await producer.stop()


def test_topics_must_not_grow_while_a_letter_has_its_partition_or_may_get_one(settings: Settings):
    async def why() -> str:
        return await requeue_table.why_not_at_rest(settings.postgres)

    async def body(at: Bench) -> None:
        await at.ask()
        assert await why() == "", "it waits, and has no partition"
        requeuer = at.requeuer()
        await requeuer.turn()
        assert "a control process runs" in await why()
        await requeuer.close()
        assert "1 requeued letters are on their way" in await why()
        await at.consumer.consume()
        assert await why() == ""

    on(settings, body, record_letter(1))


def test_letters_of_a_partition_arrive_in_order_of_their_offsets_and_all_recover(settings: Settings):
    letters = [record_letter(n, partition=n % 3, key=b"") for n in reversed(range(300))]

    async def body(at: Bench) -> None:
        requeue_id, requeuer = await at.ask(), at.requeuer()
        turns = 0
        while await requeuer.turn():
            await at.consumer.consume()
            turns += 1
        assert await at.counts() == {"recovered": 300}
        offsets = {
            n: [int((r.value or b"")[6:-1]) for r in await retries(settings) if r.partition == n] for n in range(3)
        }
        assert offsets == {n: list(range(n, 300, 3)) for n in range(3)}
        done = await letter_rows.requeue(at.connection, requeue_id)
        assert done is not None
        assert (done.outcome, done.recovered, done.waiting) == ("done", 300, 0)
        assert turns > 2  # it began with a few

    on(settings, body, *letters)


def test_what_is_sent_twice_has_one_effect_and_nothing_overtakes(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """The first requeuer dies after the broker has its letters, before it can say so."""

    async def body(at: Bench) -> None:
        await at.ask()
        with monkeypatch.context() as patched:
            patched.setattr("streams.requeue_table.sent", _dies)
            with pytest.raises(ServerMissing):
                await at.requeuer().turn()
        await at.requeuers[0].close()
        requeuer = at.requeuer()
        while await requeuer.turn():
            await at.consumer.consume()
        assert at.consumer.repeats > 0
        assert sorted(at.consumer.effects) == sorted(letter.payload for letter in letters)
        assert await at.counts() == {"recovered": 40}

    letters = [record_letter(n) for n in range(40)]
    on(settings, body, *letters)


async def _dies(*_args: object) -> None:
    raise ServerMissing("PostgreSQL", "", "killed", "")


def test_a_requeue_whose_cause_is_not_gone_is_given_up_and_the_rest_put_back(settings: Settings):
    quick = settings.model_copy(
        update={
            "control": settings.control.model_copy(update={"requeue_backoff_s": 0.001, "requeue_backoff_cap_s": 0.001})
        }
    )

    async def body(at: Bench) -> None:
        requeue_id, requeuer = await at.ask(), at.requeuer()
        while await requeuer.turn():
            await at.consumer.consume(fails=lambda _record: True)
        assert await at.counts() == {"dead": 500}
        ended = await letter_rows.requeue(at.connection, requeue_id)
        assert ended is not None
        assert ended.outcome == "gave_up"
        assert len(await retries(settings)) < 100  # it did not try them all
        moves = await letter_rows.history(at.connection, 500)
        assert [(move.actor, move.to_state) for move in moves] == [("requeuer", "dead"), ("ann", "requeued")]

    on(quick, body, *(record_letter(n) for n in range(500)))


def test_rows_of_the_outbox_are_armed_again_and_those_that_are_gone_say_so(settings: Settings):
    async def body(at: Bench) -> None:
        rows = [await insert(at.connection, payload(str(n))) for n in range(3)]
        await at.connection.execute("UPDATE outbox SET processed = true")
        times = dict(await at.connection.fetch("SELECT id, created_at FROM outbox"))
        await at.connection.execute("DELETE FROM outbox WHERE id = $1", rows[2])
        other_time = times[rows[1]] - timedelta(seconds=1)  # a row of that id before the table was emptied
        gone = [row_letter(rows[1], other_time), row_letter(rows[2], times[rows[2]])]
        await at.letters.bury([row_letter(rows[0], times[rows[0]]), *gone])
        await at.ask()
        await at.requeuer().turn()
        waiting = await at.connection.fetch("SELECT id FROM outbox WHERE processed IS NOT TRUE")
        assert [row["id"] for row in waiting] == [rows[0]]
        assert await letter_rows.count(at.connection, LetterFilter(reason="RowGone")) == 2
        assert await at.counts() == {"requeued": 1, "dead": 2}

    on(settings, body)


def test_one_requeuer_sends_and_the_next_takes_over_when_it_is_gone(settings: Settings):
    async def body(at: Bench) -> None:
        await at.ask()
        first, second = at.requeuer(), at.requeuer()
        assert await first.turn()
        assert not await second.turn()
        assert (first.leads, second.leads) == (True, False)
        assert await letter_rows.requeuer_runs(at.connection)
        await first.close()
        assert await second.turn()
        await second.close()
        assert not await letter_rows.requeuer_runs(at.connection)

    on(settings, body, record_letter(1))


def test_a_letter_of_a_consumer_that_is_no_more_is_dead_again_and_holds_up_no_other(settings: Settings):
    async def body(at: Bench) -> None:
        await at.ask()
        await at.connection.execute("UPDATE headrace.dead_letter SET source = 'bygone' WHERE id = 1")
        requeuer = at.requeuer()
        while await requeuer.turn():
            await at.consumer.consume()
        assert await at.counts() == {"dead": 1, "recovered": 1}
        assert await letter_rows.count(at.connection, LetterFilter(reason="NoConsumer")) == 1

    on(settings, body, record_letter(1), record_letter(2))


def test_a_mistake_of_ours_is_counted_and_ends_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    async def body(at: Bench) -> None:
        stop, metrics = asyncio.Event(), Metrics()
        requeuer = Requeuer(settings, SystemClock(), RequeueMetrics(metrics))

        async def stumbles(_connection: Connection) -> None:
            stop.set()
            raise OverflowError

        monkeypatch.setattr("streams.requeue_table.open_requeues", stumbles)
        await requeuer.run(stop)
        assert b"headrace_requeuer_failures_total 1.0" in await metrics.render()
        assert not await letter_rows.requeuer_runs(at.connection)  # another one may try

    on(settings, body)


@pytest.mark.real  # the embedded broker takes records of any size
def test_a_letter_that_kafka_refuses_for_good_is_dead_again_and_those_behind_it_go_on(settings: Settings):
    async def body(at: Bench) -> None:
        await at.ask()
        requeuer = at.requeuer()
        while await requeuer.turn():
            await at.consumer.consume()
        assert await at.counts() == {"recovered": 4, "dead": 1}
        (refused,) = await letter_rows.find(at.connection, LetterFilter(reason="SendRefused"), limit=10)
        assert refused.offset == 2

    letters = [record_letter(n) for n in (0, 1, 3, 4)]
    on(settings, body, record_letter(2, payload=b"x" * 4_000_000), *letters)
