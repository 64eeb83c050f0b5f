"""Whatever happens to a breaker, some things hold."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from contracts.call_errors import BreakerOpen
from reliability import breaker_machine
from reliability.breaker import Breaker, Change
from reliability.breaker_machine import Machine, Mode, Now, State
from runtime.clock import ManualClock
from runtime.settings_reliability import BreakerSettings

RULES = BreakerSettings(window_calls=10, min_calls=5, half_open_max_s=4.0)
OVERRIDES = (State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY)


class BreakerUnderUse(RuleBasedStateMachine):
    """Callers come and go, time passes, operators interfere."""

    permits: Bundle[tuple[int, State]] = Bundle("permits")

    @initialize()
    def start(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.changes: list[Change] = []
        self.breaker = Breaker("shop", RULES, self.clock, self.changes.append)
        self.generations = [1]
        self.given: dict[int, int] = {}
        self.asked = self.answered = 0
        self.told_to_wait_s = 0.0

    @rule(target=permits)
    def call(self) -> tuple[int, State]:
        self.asked += 1
        try:
            permit = self.breaker.acquire()
        except BreakerOpen as refusal:
            self.answered += 1
            assert self.breaker.state in (State.OPEN, State.HALF_OPEN, State.FORCED_OPEN)
            self.told_to_wait_s = refusal.retry_after_s or 0.0
            return -1, State.OPEN
        state = self.breaker.state
        if state is State.HALF_OPEN:
            self.given[permit] = self.given.get(permit, 0) + 1
        return permit, state

    @rule(permit=consumes(permits), slow=st.booleans())
    def succeed(self, permit: tuple[int, State], slow: bool) -> None:  # noqa: FBT001
        if permit[0] > 0:
            self.answered += 1
            self.breaker.succeeded(permit[0], 2.0 if slow else 0.1)

    @rule(permit=consumes(permits), ours=st.booleans())
    def fail(self, permit: tuple[int, State], ours: bool) -> None:  # noqa: FBT001
        if permit[0] > 0:
            self.answered += 1
            self.breaker.failed(permit[0], 0.1, ValueError("ours") if ours else ConnectionResetError())
            if ours:
                self.handed_back(permit[0])

    @rule(permit=consumes(permits))
    def cancel(self, permit: tuple[int, State]) -> None:
        if permit[0] > 0:
            self.answered += 1
            self.breaker.release(permit[0])
            self.handed_back(permit[0])

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 7.0, 80.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(mode=st.sampled_from(list(Mode)))
    @precondition(lambda self: self.asked % 7 == 6)
    def operate(self, mode: Mode) -> None:
        self.breaker.set_mode(mode)
        assert (self.breaker.state in OVERRIDES) == (mode is not Mode.AUTO)

    @invariant()
    def a_generation_never_comes_back(self) -> None:
        now = self.breaker.machine.generation
        assert now >= self.generations[-1]
        self.generations.append(now)

    @invariant()
    def each_half_open_gives_no_more_than_its_probes(self) -> None:
        assert all(count <= RULES.probes for count in self.given.values())
        machine = self.breaker.machine
        assert 0 <= machine.back <= machine.given <= RULES.probes

    @invariant()
    def nobody_is_sent_away_for_longer_than_the_longest_wait(self) -> None:
        assert 0.0 <= self.told_to_wait_s <= 1.2 * RULES.open_max_s

    @invariant()
    def every_call_is_counted_once(self) -> None:
        assert sum(self.breaker.counts.values()) == self.answered

    @invariant()
    def each_change_begins_where_the_last_one_ended(self) -> None:
        changes = self.changes
        assert all(after.before is before.after for before, after in pairwise(changes))
        assert not changes or changes[-1].after is self.breaker.state

    def handed_back(self, permit: int) -> None:
        if permit == self.breaker.machine.generation and permit in self.given:
            self.given[permit] -= 1


TestBreakerUnderUse = BreakerUnderUse.TestCase


@given(openings=st.integers(1, 200), jitter=st.floats(-1, 1))
def test_a_wait_doubles_up_to_its_limit_give_or_take_the_jitter(openings: int, jitter: float):
    before = Machine(State.HALF_OPEN, 7, openings=openings - 1)
    after = breaker_machine.opened(before, RULES, Now(100.0, jitter))
    plain_s = min(RULES.open_max_s, RULES.open_s * 2 ** min(openings - 1, 30))
    assert abs(after.wait_s - plain_s) <= plain_s * RULES.open_jitter_ratio * 1.0001
    assert (after.state, after.openings, after.until_s) == (State.OPEN, openings, 100.0 + after.wait_s)


@given(
    failed=st.integers(0, 100),
    slow=st.integers(0, 100),
    calls=st.integers(0, 100),
)
def test_it_trips_at_the_ratio_of_failed_or_slow_calls_and_never_below_the_least_number(
    failed: int, slow: int, calls: int
):
    class Counts:
        def __init__(self) -> None:
            self.calls, self.failed, self.slow = calls, min(failed, calls), min(slow, calls)

    counts = Counts()
    enough = calls >= RULES.min_calls
    expected = enough and (2 * counts.failed >= calls or 5 * counts.slow >= 4 * calls)
    # 0.8 is no binary fraction: exactly at the ratio either answer is right.
    if 5 * counts.slow != 4 * calls:
        assert breaker_machine.tripped(RULES, counts) == expected  # type: ignore[arg-type]  # the counts of a window
