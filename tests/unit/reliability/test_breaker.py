"""What a breaker does with calls."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from contracts.call_errors import BreakerOpen, CallTimeout
from reliability.breaker import Breaker, Change, Outcome
from reliability.breaker_machine import Machine, Mode, Now, State, probed, release
from reliability.fault import WRONG_CALL
from runtime.clock import ManualClock
from runtime.settings_reliability import BreakerSettings
from tests.support.aio import run
from tests.support.virtual import LoopClock, simulate


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def breaker(clock: ManualClock, told: list[Change] | None = None, **rules: object) -> Breaker:
    return Breaker("shop", BreakerSettings.model_validate(rules), clock, (told if told is not None else []).append)


def state_of(subject: Breaker) -> State:
    """A function, so that mypy does not take the state for constant."""
    return subject.state


def fail(subject: Breaker, times: int = 1) -> None:
    for _ in range(times):
        subject.failed(subject.acquire(), 0.01, ConnectionResetError())


def succeed(subject: Breaker, times: int = 1, took_s: float = 0.01) -> None:
    for _ in range(times):
        subject.succeeded(subject.acquire(), took_s)


def calls_until_open(subject: Breaker, failing: list[bool], took_s: float = 0.01) -> int | None:
    for number in range(1, 101):
        permit = subject.acquire()
        if failing[number % len(failing)]:
            subject.failed(permit, took_s, ConnectionResetError())
        else:
            subject.succeeded(permit, took_s)
        if state_of(subject) is State.OPEN:
            return number
    return None


@pytest.mark.parametrize(("failing", "took_s"), [([True, False], 0.01), ([False], 1.5), ([True], 0.01)])
def test_half_failing_or_all_slow_calls_open_it_as_soon_as_they_say_anything(
    clock: ManualClock, failing: list[bool], took_s: float
):
    assert calls_until_open(breaker(clock), failing, took_s) == 20


def test_fewer_failures_than_the_ratio_never_open_it(clock: ManualClock):
    assert calls_until_open(breaker(clock), [True, False, False]) is None


def test_a_time_window_forgets_old_failures(clock: ManualClock):
    subject = breaker(clock, window="time", window_s=10, min_calls=10)
    fail(subject, 9)
    clock.advance(11)
    fail(subject, 9)
    assert state_of(subject) is State.CLOSED
    fail(subject)
    assert state_of(subject) is State.OPEN


def test_an_open_breaker_refuses_and_says_for_how_long(clock: ManualClock):
    subject = breaker(clock, open_jitter_ratio=0)
    fail(subject, 20)
    clock.advance(2)
    with pytest.raises(BreakerOpen, match=r"shop: breaker is open; try again in 3.0 s") as refused:
        subject.acquire()
    assert refused.value.retry_after_s == 3.0


def test_three_of_a_thousand_callers_pass_a_half_open_breaker(clock: ManualClock):
    subject = breaker(clock)
    fail(subject, 20)
    clock.advance(6.1)
    passed = 0
    for _ in range(1000):
        try:
            subject.acquire()
            passed += 1
        except BreakerOpen:
            pass
    assert (passed, subject.state) == (3, State.HALF_OPEN)


def test_good_probes_close_it_and_a_second_bad_one_opens_it_for_twice_as_long(clock: ManualClock):
    subject = breaker(clock, open_jitter_ratio=0)
    fail(subject, 20)
    clock.advance(5)
    fail(subject)
    succeed(subject)
    assert state_of(subject) is State.HALF_OPEN
    fail(subject)
    assert (subject.state, subject.machine.wait_s) == (State.OPEN, 10)
    clock.advance(10)
    succeed(subject, 3)
    assert state_of(subject) is State.CLOSED
    assert subject.as_json()["window_calls"] == 0


def test_a_dependency_that_falls_over_right_after_it_came_back_is_left_alone_for_longer(clock: ManualClock):
    subject = breaker(clock, open_jitter_ratio=0)
    fail(subject, 20)
    clock.advance(5)
    succeed(subject, 3)
    clock.advance(4)
    fail(subject, 20)
    assert subject.machine.wait_s == 10
    clock.advance(10)
    succeed(subject, 3)
    clock.advance(11)
    fail(subject, 20)
    assert subject.machine.wait_s == 5


def test_in_a_long_wait_one_call_at_a_time_goes_ahead_and_a_good_one_begins_the_probing(clock: ManualClock):
    subject = breaker(clock, open_s=40, scout_s=5, open_jitter_ratio=0, half_open_max_s=10)
    fail(subject, 20)
    opened = subject.machine
    clock.advance(5)
    fail(subject)
    assert (subject.machine.until_s, subject.machine.generation) == (opened.until_s, opened.generation)
    clock.advance(5)
    lost = subject.acquire()
    with pytest.raises(BreakerOpen) as refused:
        subject.acquire()
    assert refused.value.retry_after_s == 10
    clock.advance(10)
    subject.release(subject.acquire())
    succeed(subject)
    assert state_of(subject) is State.HALF_OPEN
    subject.succeeded(lost, 10)
    succeed(subject, 2)
    assert state_of(subject) is State.CLOSED


def test_without_scouts_a_long_wait_is_kept(clock: ManualClock):
    subject = breaker(clock, open_s=40, scout_s=0, open_jitter_ratio=0)
    fail(subject, 20)
    clock.advance(39.9)
    with pytest.raises(BreakerOpen):
        subject.acquire()
    clock.advance(0.2)
    succeed(subject, 3)
    assert state_of(subject) is State.CLOSED


def test_a_cancelled_probe_is_given_to_the_next_caller_and_counts_as_nothing(clock: ManualClock):
    subject = breaker(clock, probes=1)
    fail(subject, 20)
    clock.advance(6.1)
    subject.release(subject.acquire())
    assert state_of(subject) is State.HALF_OPEN
    succeed(subject)
    assert state_of(subject) is State.CLOSED
    assert (subject.counts[Outcome.CANCELLED], subject.counts[Outcome.SUCCESS]) == (1, 1)


def test_a_call_that_began_before_it_opened_neither_closes_nor_reopens_it(clock: ManualClock):
    subject = breaker(clock, probes=1, open_jitter_ratio=0)
    early, late = subject.acquire(), subject.acquire()
    fail(subject, 20)
    subject.succeeded(early, 0.1)
    assert state_of(subject) is State.OPEN
    clock.advance(5)
    probe = subject.acquire()
    subject.failed(late, 5.0, ConnectionResetError())
    assert state_of(subject) is State.HALF_OPEN
    subject.succeeded(probe, 0.1)
    assert state_of(subject) is State.CLOSED


def test_what_ends_after_the_breaker_opened_and_closed_again_is_not_in_the_new_window(clock: ManualClock):
    subject = breaker(clock)
    late = [subject.acquire() for _ in range(30)]
    fail(subject, 20)
    clock.advance(6.1)
    succeed(subject, 3)
    for permit in late:
        subject.failed(permit, 7, ConnectionResetError())
    assert (state_of(subject), subject.as_json()["window_calls"]) == (State.CLOSED, 0)


def test_the_machine_itself_drops_results_and_permits_of_another_generation():
    machine = Machine(State.HALF_OPEN, 7, until_s=10, given=2)
    for older in (6, 1):
        assert probed(machine, BreakerSettings(), older, Now(1, 0), failed=True, slow=False) is machine
        assert release(machine, older, 1) is machine


def test_a_probe_without_a_result_in_time_counts_as_failed(clock: ManualClock):
    subject = breaker(clock, open_jitter_ratio=0, half_open_max_s=4)
    fail(subject, 20)
    clock.advance(5)
    lost = subject.acquire()
    clock.advance(4)
    with pytest.raises(BreakerOpen):
        subject.acquire()
    assert (subject.state, subject.machine.wait_s) == (State.OPEN, 10)
    subject.succeeded(lost, 4)
    assert state_of(subject) is State.OPEN


def test_probes_that_come_seldom_still_close_it(clock: ManualClock):
    subject = breaker(clock, half_open_max_s=4)
    fail(subject, 20)
    clock.advance(70)
    succeed(subject)
    assert state_of(subject) is State.HALF_OPEN
    clock.advance(70)
    succeed(subject)
    assert state_of(subject) is State.CLOSED


def test_a_seldom_probe_that_failed_does_not_close_it(clock: ManualClock):
    subject = breaker(clock, half_open_max_s=4)
    fail(subject, 20)
    clock.advance(70)
    fail(subject)
    clock.advance(70)
    with pytest.raises(BreakerOpen):
        subject.acquire()
    assert state_of(subject) is State.OPEN


def test_a_call_that_was_wrong_is_no_sign_of_illness_and_our_own_bugs_are_no_sign_at_all(clock: ManualClock):
    subject = Breaker("shop", BreakerSettings(), clock, lambda _: None, lambda _: WRONG_CALL)
    for _ in range(30):
        subject.failed(subject.acquire(), 0.01, ValueError())
    assert (subject.state, subject.counts[Outcome.SUCCESS]) == (State.CLOSED, 30)
    subject = breaker(clock)
    for _ in range(30):
        subject.failed(subject.acquire(), 0.01, TypeError())
    assert (subject.state, subject.counts[Outcome.IGNORED]) == (State.CLOSED, 30)


@pytest.mark.parametrize("error", [CallTimeout("shop", 0.2), TimeoutError()])
def test_a_timeout_counts_only_where_the_call_had_time_to_be_slow(clock: ManualClock, error: Exception):
    subject = breaker(clock)
    for _ in range(40):
        subject.failed(subject.acquire(), 0.2, error)
    assert state_of(subject) is State.CLOSED
    for _ in range(20):
        subject.failed(subject.acquire(), 1.0, error)
    assert state_of(subject) is State.OPEN


def test_an_operator_holds_it_open_closed_or_quiet_and_hands_it_back(clock: ManualClock):
    subject = breaker(clock)
    subject.set_mode(Mode.FORCED_OPEN)
    with pytest.raises(BreakerOpen, match="held open by an operator"):
        subject.acquire()
    subject.set_mode(Mode.DISABLED)
    fail(subject, 200)
    assert subject.as_json()["window_calls"] == 0
    subject.set_mode(Mode.METRICS_ONLY)
    fail(subject, 200)
    assert (subject.state, subject.as_json()["failure_ratio"]) == (State.METRICS_ONLY, 1.0)
    subject.set_mode(Mode.AUTO)
    assert (subject.state, subject.as_json()["window_calls"]) == (State.CLOSED, 0)
    fail(subject, 20)
    subject.set_mode(Mode.AUTO)
    assert state_of(subject) is State.OPEN


def test_each_change_of_state_is_told_with_its_reason(clock: ManualClock):
    told: list[Change] = []
    subject = breaker(clock, told)
    fail(subject, 20)
    clock.advance(6.1)
    succeed(subject, 3)
    assert [(change.before, change.after, change.reason) for change in told] == [
        (State.CLOSED, State.OPEN, "20 of 20 calls failed, 0 were slow"),
        (State.OPEN, State.HALF_OPEN, "the wait is over"),
        (State.HALF_OPEN, State.CLOSED, "probes were good"),
    ]


def test_a_mode_of_the_settings_holds_from_the_start(clock: ManualClock):
    assert breaker(clock, mode="forced_open").state is State.FORCED_OPEN


def test_a_guarded_call_answers_raises_and_is_cancelled_like_the_call_itself():
    async def story(clock: LoopClock) -> None:
        subject = breaker(clock)

        async def answer() -> str:
            return "yes"

        async def broken() -> None:
            raise ConnectionResetError("gone")

        assert await subject.call(answer) == "yes"
        with pytest.raises(ConnectionResetError, match="gone"):
            await subject.call(broken)
        hanging = asyncio.create_task(subject.call(asyncio.Event().wait))
        await asyncio.sleep(0)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        counts = subject.counts
        assert [counts[each] for each in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.CANCELLED)] == [1, 1, 1]

    simulate(story)


def test_a_refused_call_is_not_made(clock: ManualClock):
    subject = breaker(clock, mode="forced_open")

    async def never() -> None:
        raise AssertionError("was called")

    async def story() -> None:
        with pytest.raises(BreakerOpen):
            await subject.call(never)

    run(story())
