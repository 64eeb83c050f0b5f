"""What the control process does by itself, one look at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from control.housekeeping import LAST_BY_RULE, Housekeeping
from control.observed import ControlMetrics
from control.rules import PROBE
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams import letter_moves, letter_rows, postgres
from streams.dead_letters import DeadLetters
from streams.letter_filter import LetterFilter
from streams.letter_moves import Order
from streams.postgres import Connection
from streams.requeue_metrics import RequeueMetrics
from streams.requeuer import Requeuer
from tests.support.aio import run
from tests.support.letters import record_letter


class Bench:
    """A requeuer and the housekeeping beside it, with three dead letters."""

    def __init__(self, settings: Settings, pool: postgres.Pool, connection: Connection) -> None:
        self.connection = connection
        self.letters = DeadLetters(pool, settings.postgres)
        self.metrics = Metrics()
        gauges, clock = RequeueMetrics(self.metrics), SystemClock()
        self.requeuer = Requeuer(settings, clock, gauges)
        counted = ControlMetrics(self.metrics)
        self.keeping = Housekeeping(settings, pool, clock, self.requeuer, (counted, gauges), Health())

    async def leads(self) -> None:
        await self.requeuer.turn()
        assert await self.keeping.look()

    async def ids(self) -> list[int]:
        return sorted(letter.id for letter in await letter_rows.find(self.connection, LetterFilter(), limit=10))


def on(settings: Settings, body: Callable[[Bench], Awaitable[None]], **control: object) -> None:
    settings = settings.model_copy(update={"control": settings.control.model_copy(update=control)})

    async def main() -> None:
        connection = await postgres.connect(settings.postgres, name="test")
        try:
            async with postgres.pool(settings.postgres, name="test", size=2) as pool:
                bench = Bench(settings, pool, connection)
                await bench.letters.bury([record_letter(n) for n in range(3)])
                try:
                    await body(bench)
                finally:
                    await bench.requeuer.close()
        finally:
            await postgres.close(connection)

    run(main())


@pytest.mark.parametrize("days", [1.0, 0.0])
def test_letters_that_were_closed_long_ago_are_purged_unless_that_is_switched_off(settings: Settings, days: float):
    async def body(at: Bench) -> None:
        await at.connection.execute("SELECT set_config('headrace.why', 'a test', false)")
        await at.connection.execute("UPDATE headrace.dead_letter SET state = 'discarded' WHERE id > 1")
        await at.connection.execute(
            "UPDATE headrace.dead_letter SET last_at = last_at - interval '2 days' WHERE id < 3"
        )
        await at.leads()
        assert await at.ids() == ([1, 3] if days else [1, 2, 3])

    on(settings, body, keep_closed_days=days)


def test_a_process_that_leads_no_more_tells_no_counts(settings: Settings):
    """They would stay as they were for ever, and an alert with them."""

    async def body(at: Bench) -> None:
        await at.leads()
        assert b'headrace_dlq_entries{stream="orders"} 3.0' in await at.metrics.render()
        await at.requeuer.close()
        assert not await at.keeping.look()
        told = await at.metrics.render()
        assert b"headrace_dlq_entries{" not in told
        assert b"headrace_dlq_oldest_entry_seconds{" not in told

    on(settings, body)


def test_while_an_outage_lasts_a_rule_tries_a_few_letters_and_all_once_some_recover(settings: Settings):
    """Thousands that are put back again and again would fill the audit, which nobody can shorten."""

    async def body(at: Bench) -> None:
        await at.letters.bury([record_letter(n) for n in range(3, 60)])
        await at.leads()
        (first,) = await letter_rows.requeues(at.connection, limit=5)
        assert (first.automatic, first.letter_count) == (True, 60)
        order = Order("requeuer", "they died again", 1)
        await letter_moves.cancel(at.connection, first.id, order, outcome="gave_up")
        await at.keeping.look()
        second, _first = await letter_rows.requeues(at.connection, limit=5)
        assert second.letter_count == PROBE
        await at.connection.execute(
            "UPDATE headrace.dead_letter SET state = 'recovered', waiting = false WHERE requeue_id = $1", second.id
        )
        await letter_moves.end_finished(at.connection)
        await at.keeping.look()
        third, *_others = await letter_rows.requeues(at.connection, limit=5)
        assert third.letter_count == 60 - PROBE

    on(settings, body, requeue_rules={"Unavailable": 4}, requeue_first_s=0.001)


def test_the_last_requeue_of_a_rule_is_found_without_reading_those_of_years(settings: Settings):
    async def body(at: Bench) -> None:
        await at.connection.execute(
            "INSERT INTO headrace.requeue (actor, why, asked, rate_per_s, letter_count, outcome, ended_at) "
            "SELECT 'ann', 'a test', '{}', 1, 1, 'done', now() FROM generate_series(1, 5000)"
        )
        await at.connection.execute("ANALYZE headrace.requeue")
        plan = "\n".join(row[0] for row in await at.connection.fetch(f"EXPLAIN {LAST_BY_RULE}", "CallTimeout"))
        assert "requeue_by_rule" in plan

    on(settings, body)
