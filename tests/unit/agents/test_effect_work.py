"""What becomes of records that something is called for."""

from __future__ import annotations

import asyncio

import pytest

from agents import effect_work
from agents.effect import Done, Outcome, RetryLater, Try
from contracts.errors import BadText, ServerMissing
from streams.record_chunk import SourceRecord
from tests.support.aio import run
from tests.support.effects import BUSY, DEAD, LATER, NOT_NOW, EffectBench, Shop, settle


def first_tries_fail(_record: SourceRecord, which: Try) -> Outcome:
    return LATER if which.number == 1 else Done()


def test_an_aggregates_records_run_one_after_the_other_and_others_beside_them():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.held = True
        await bench.fold(0, "x:1", "x:2", "y:1")
        assert bench.called() == ["x:1", "y:1"]
        bench.let_go(["x:1"])
        await settle()
        assert bench.called() == ["x:1", "y:1", "x:2"]
        await bench.work.stop()

    run(scenario())


def test_no_more_calls_are_under_way_than_the_policy_allows():
    async def scenario() -> None:
        bench = EffectBench(concurrency=2, order="none")
        bench.shop.held = True
        await bench.fold(0, "x:1", "x:2", "x:3", "x:4")
        assert bench.called() == ["x:1", "x:2"]
        bench.let_go(["x:2"])
        await settle()
        assert bench.called() == ["x:1", "x:2", "x:3"]
        await bench.work.stop()

    run(scenario())


def test_the_log_is_acknowledged_up_to_the_first_record_that_is_under_way():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.held = True
        await bench.fold(5, "x:1", "y:1", "z:1")
        bench.let_go(["x:1", "z:1"])
        await settle()
        await bench.flush()
        assert bench.acknowledged_to == 5
        bench.let_go(["y:1"])
        await settle()
        await bench.flush()
        assert bench.acknowledged_to == 7

    run(scenario())


def test_after_a_crash_only_calls_are_repeated_that_were_under_way_or_not_flushed():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.held = True
        await bench.fold(0, "v:1", "x:1", "y:1", "z:1")
        bench.let_go(["x:1", "z:1"])
        await settle()
        await bench.flush()
        bench.let_go(["y:1"])
        await settle()
        await bench.die()
        bench.shop.held = False
        await bench.fold(0, "v:1", "x:1", "y:1", "z:1", "z:2")
        assert bench.called()[4:] == ["v:1", "y:1", "z:2"]
        await bench.flush()
        assert bench.acknowledged_to == 4

    run(scenario())


def test_a_record_that_fails_holds_up_neither_the_log_nor_other_aggregates_but_those_of_its_own():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.script = lambda record, which: first_tries_fail(record, which) if record.offset == 0 else Done()
        await bench.fold(0, "x:1", "x:2", "y:1")
        await bench.flush()
        assert bench.acknowledged_to == 2
        assert bench.shop.done == ["y:1"]
        await bench.fold(3, "x:3", "y:2")
        await bench.pass_s(60)
        assert bench.shop.done == ["y:1", "y:2", "x:1", "x:2", "x:3"]
        assert bench.acknowledged_to == 4

    run(scenario())


def test_without_order_a_record_that_fails_holds_up_nobody():
    async def scenario() -> None:
        bench = EffectBench(order="none")
        bench.shop.script = lambda record, which: first_tries_fail(record, which) if record.offset == 0 else Done()
        await bench.fold(0, "x:1", "x:2")
        assert bench.shop.done == ["x:2"]
        await bench.pass_s(60)
        assert bench.shop.done == ["x:2", "x:1"]

    run(scenario())


def test_what_waits_outlives_the_worker_with_its_tries_and_its_place_in_the_order():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.script = first_tries_fail
        await bench.fold(0, "x:1", "x:2")
        await bench.flush()
        await bench.die()
        await bench.fold(0, "x:1", "x:2")  # the log was not acknowledged: it comes again, and is known
        await bench.fold(2, "x:3")
        await bench.pass_s(60)
        for _ in range(3):
            await bench.pass_s(60)
        assert bench.shop.called == [("x:1", 1), ("x:1", 2), ("x:2", 1), ("x:2", 2), ("x:3", 1), ("x:3", 2)]
        left = [key for key, _ in bench.store.items(0) if b"later" in key]
        assert not left

    run(scenario())


def test_a_retry_comes_not_before_the_time_that_was_asked_for():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.script = lambda _record, which: RetryLater(BUSY, delay_s=120) if which.number == 1 else Done()
        await bench.fold(0, "x:1")
        await bench.pass_s(119)
        assert not bench.shop.done
        await bench.pass_s(10)
        assert bench.shop.done == ["x:1"]

    run(scenario())


def test_when_the_tries_are_used_up_the_record_is_a_dead_letter_with_their_number_and_the_next_one_goes_on():
    async def scenario() -> None:
        bench = EffectBench(tries=3)
        bench.shop.script = lambda record, _which: LATER if record.offset == 0 else Done()
        await bench.fold(0, "x:1", "x:2")
        for _ in range(4):
            await bench.pass_s(3600)
        (letter,) = bench.letters
        assert (letter.offset, letter.attempts, letter.error_class) == (0, 3, "Busy")
        assert bench.shop.done == ["x:2"]
        assert bench.acknowledged_to == 1

    run(scenario())


def test_what_will_never_succeed_is_dead_at_once():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.script = lambda _record, _which: DEAD
        await bench.fold(0, "x:1")
        await bench.flush()
        assert [(letter.attempts, letter.error_class) for letter in bench.letters] == [(1, "Broken")]
        assert bench.acknowledged_to == 0

    run(scenario())


def test_calls_that_were_not_made_spend_no_tries_however_long_that_lasts():
    async def scenario() -> None:
        bench = EffectBench(tries=2)
        bench.shop.script = lambda _record, _which: NOT_NOW
        await bench.fold(0, "x:1")
        for _ in range(20):
            await bench.pass_s(3600)
        assert not bench.letters
        assert {number for _name, number in bench.shop.called} == {1}
        bench.shop.script = lambda _record, _which: Done()
        await bench.pass_s(3600)
        assert bench.shop.done == ["x:1"]

    run(scenario())


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ServerMissing("shop", "http://shop", "away", "start it"), "retry"),
        (BadText(event="order", field="id", limit="must be text", value=b""), "dead"),
        (ZeroDivisionError("a bug"), "retry"),
    ],
)
def test_an_error_that_a_call_raises_is_judged_by_its_kind(error: Exception, result: str):
    async def scenario() -> None:
        bench = EffectBench(tries=2)

        def failing(_record: SourceRecord, which: Try) -> Outcome:
            if which.number == 1:
                raise error
            return Done()

        bench.shop.script = failing
        await bench.fold(0, "x:1")
        await bench.pass_s(3600)
        assert bench.shop.done == (["x:1"] if result == "retry" else [])
        assert [letter.error_class for letter in bench.letters] == ([type(error).__name__] if result == "dead" else [])

    run(scenario())


def test_a_call_that_does_not_end_is_cancelled_and_tried_again():
    async def scenario() -> None:
        bench = EffectBench(call_timeout_s=0.01, tries=1)
        bench.shop.held = True
        await bench.fold(0, "x:1")
        while not bench.letters:
            await bench.flush()
        assert bench.letters[0].error_class == "CallTimeout"

    run(scenario())


def test_a_letter_that_comes_back_is_called_for_once_and_told_before_its_row_is_gone():
    async def scenario() -> None:
        bench = EffectBench()
        await bench.take_back((7, "x:1", 41, 9), (7, "x:1", 41, 9))
        assert bench.shop.done == ["x:1"]
        bench.half_a_flush()
        await bench.die()  # its effect is there and written down, but nobody was told
        await bench.take_back((7, "x:1", 41, 9))
        await bench.flush()
        assert bench.recovered == [(9, 7)]
        assert bench.shop.done == ["x:1"]
        await bench.flush()
        assert not [key for key, _ in bench.store.items(0) if b"later" in key]

    run(scenario())


def test_a_letter_that_fails_again_is_the_same_letter():
    async def scenario() -> None:
        bench = EffectBench(tries=2)
        bench.shop.script = lambda _record, _which: LATER
        await bench.take_back((7, "x:1", 41, 9))
        await bench.flush()
        await bench.die()
        await bench.pass_s(3600)
        (letter,) = bench.letters
        assert (letter.topic, letter.incarnation, letter.offset) == ("headrace.orders", "1a2b3c4d", 41)
        assert (letter.requeue_seq, letter.attempts) == (7, 2)
        assert not bench.recovered

    run(scenario())


def test_a_letter_that_comes_back_goes_before_later_records_of_its_aggregate_that_wait():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.script = first_tries_fail
        await bench.fold(50, "x:2")
        await bench.take_back((7, "x:1", 41, 9))
        for _ in range(3):
            await bench.pass_s(60)
        assert bench.shop.done == ["x:1", "x:2"]

    run(scenario())


def test_a_tenant_over_its_quota_waits_in_rows_and_delays_nobody_else():
    async def scenario() -> None:
        bench = EffectBench(tenant_per_s=1, tenant_burst=2, order="none")
        await bench.fold(0, *(f"x:{n}" for n in range(10)), tenant="noisy")
        await bench.fold(10, "y:1", tenant="quiet")
        assert bench.shop.done == ["x:0", "x:1", "y:1"]
        await bench.flush()
        assert bench.acknowledged_to == 10
        await bench.pass_s(3)
        assert bench.shop.done[3:] == ["x:2", "x:3"]
        await bench.die()
        for _ in range(12):
            await bench.pass_s(1)
        assert sorted(bench.shop.done) == sorted(["y:1", *(f"x:{n}" for n in range(10))])

    run(scenario())


def test_a_tenants_quota_is_that_of_all_workers_together():
    async def scenario() -> None:
        bench = EffectBench(tenant_per_s=4, tenant_burst=4, order="none")
        bench.workers = 4
        await bench.fold(0, *(f"x:{n}" for n in range(10)))
        assert len(bench.shop.done) == 1
        await bench.pass_s(1.01)
        assert len(bench.shop.done) == 2
        bench.workers = 1  # the others have stopped, and this one has their partitions
        await bench.pass_s(1.01)
        assert len(bench.shop.done) >= 5

    run(scenario())


def test_retries_leave_no_faster_than_the_quota_lets_them_and_first_tries_are_not_held_up():
    async def scenario() -> None:
        bench = EffectBench(retry_per_s=1, base_s=0.001, concurrency=100)
        bench.shop.script = first_tries_fail
        await bench.fold(0, *(f"a{n}:1" for n in range(10)))
        await bench.pass_s(0.1)
        assert len(bench.shop.done) == 1
        bench.shop.script = lambda _record, _which: Done()
        await bench.fold(10, "new:1")
        assert "new:1" in bench.shop.done
        for _ in range(9):
            await bench.pass_s(1.1)
        assert len(bench.shop.done) == 11

    run(scenario())


def test_with_as_many_waiting_records_as_allowed_no_more_are_taken_in_until_some_are_done():
    async def scenario() -> None:
        bench = EffectBench(waiting_records=2)
        bench.shop.script = first_tries_fail
        await bench.fold(0, "x:1")
        assert not bench.work.is_full()
        await bench.fold(1, "y:1")
        assert bench.work.is_full()
        await bench.pass_s(60)
        assert not bench.work.is_full()

    run(scenario())


def test_what_is_called_slower_than_the_log_comes_is_written_down_so_that_the_log_is_read_on(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(effect_work, "MOST_OPEN", 3)

    async def scenario() -> None:
        bench = EffectBench(concurrency=1)
        bench.shop.held = True
        await bench.fold(0, *(f"x:{n}" for n in range(6)))
        assert bench.work.is_busy()
        assert not bench.work.is_full()
        await bench.flush()
        assert len([key for key, _ in bench.store.items(0) if b"later" in key]) == 3
        await bench.die()
        bench.shop.held = False
        await bench.fold(0, *(f"x:{n}" for n in range(6)))
        assert bench.called() == ["x:0", *(f"x:{n}" for n in range(6))]

    run(scenario())


def test_a_worker_that_stops_waits_for_calls_under_way_and_begins_no_others():
    async def scenario() -> None:
        bench = EffectBench(concurrency=1)
        bench.shop.held = True
        await bench.fold(0, "x:1", "y:1")
        bench.work.finish()
        assert not bench.work.is_drained(2)
        bench.let_go(["x:1"])
        await settle()
        assert not bench.work.is_drained(2), "what was done is not written down yet"
        await bench.flush()
        assert bench.work.is_drained(2)
        assert bench.called() == ["x:1"]
        await bench.die()
        bench.shop.held = False
        await bench.fold(0, "x:1", "y:1")
        assert bench.called() == ["x:1", "y:1"]

    run(scenario())


class Leaking(Shop):
    """What it waits for is cancelled by somebody else."""

    async def run(self, record: SourceRecord, which: Try) -> Outcome:
        if which.number == 1:
            raise asyncio.CancelledError
        return await super().run(record, which)


def test_a_call_that_somebody_else_cancels_is_tried_again():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop = Leaking()
        bench.work = bench.opened()
        await bench.fold(0, "x:1", "x:2")
        await bench.flush()
        await bench.pass_s(3600)
        await bench.pass_s(3600)
        assert bench.shop.done == ["x:1", "x:2"]

    run(scenario())


def test_what_is_left_out_behind_a_record_holds_the_log_up_no_longer_than_that_record():
    async def scenario() -> None:
        bench = EffectBench()
        bench.shop.held = True
        await bench.fold(0, "x:1")
        bench.work.passed(4)
        await bench.flush()
        assert bench.acknowledged_to == -1
        bench.let_go(["x:1"])
        await settle()
        await bench.flush()
        assert bench.acknowledged_to == 4

    run(scenario())


def test_of_many_retries_that_are_due_at_once_only_those_are_looked_at_whose_turn_it_is():
    async def scenario() -> None:
        bench = EffectBench(order="none", concurrency=500, retry_per_s=10)
        bench.shop.script = first_tries_fail
        await bench.fold(0, *(f"{n}:x" for n in range(500)))
        await bench.flush()
        bench.clock.advance(3600)
        await bench.flush()
        asked = bench.limiter.asked
        for _ in range(20):
            bench.clock.advance(0.1)
            await bench.flush()
        assert bench.limiter.asked - asked <= 4 * 20
        for _ in range(60):
            bench.clock.advance(1.0)
            await bench.flush()
        assert len(bench.shop.done) == 500

    run(scenario())


def test_while_our_own_side_refuses_few_calls_are_begun_and_the_first_that_is_made_ends_that():
    async def scenario() -> None:
        bench = EffectBench(order="none", concurrency=5)
        bench.shop.script = lambda _record, _which: NOT_NOW
        await bench.fold(0, *(f"{n}:x" for n in range(500)))
        for _ in range(100):
            bench.clock.advance(0.1)
            await bench.flush()
        assert 5 * 10 <= len(bench.shop.called) <= 5 * 20
        await bench.fold(500, "501:x")
        await bench.flush()
        assert bench.acknowledged_to == 500, "the log waits for nothing that is refused"
        bench.shop.script = lambda _record, _which: Done()
        for _ in range(2):
            bench.clock.advance(60.0)
            await bench.flush()
            for _ in range(60):
                await settle()
        assert len(bench.shop.done) == 501

    run(scenario())
