from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reliability.call import Priority
from reliability.shed import Line, LineRules, Reason, Ticket

EVEN = (1.0, 1.0, 1.0, 1.0)
RULES = LineRules(target_s=0.005, interval_s=0.1, waiting=8, shares=EVEN)
FOREVER = float("inf")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(Priority), st.floats(0.001, 0.3)),
        st.tuples(st.just("done"), st.integers(0, 30), st.just(0.0)),
        st.tuples(st.just("leave"), st.integers(0, 30), st.just(0.0)),
        st.tuples(st.just("pass"), st.just(0), st.floats(0, 0.2)),
    ),
    max_size=80,
)
shares = st.tuples(*[st.floats(0.1, 1)] * 4).map(lambda each: tuple(sorted(each, reverse=True)))


class Play:
    """A line under arbitrary steps, and what each ticket has come to."""

    def __init__(self, rules: LineRules, width: int) -> None:
        self.line, self.width, self.now_s = Line(rules), width, 0.0
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []

    def step(self, what: str, which: int, seconds: float) -> None:
        if what == "arrive":
            ticket, evicted = self.line.arrive(Priority(which), self.now_s, self.now_s + seconds, self.width)
            if evicted is not None:
                assert evicted.turned_away is Reason.LIMIT
                assert evicted.priority > ticket.priority
                self.waiting.remove(evicted)
            if ticket.running:
                self.running.append(ticket)
            elif ticket.turned_away is None:
                self.waiting.append(ticket)
            return
        if what == "pass":
            self.now_s += seconds
            return
        group = self.running if what == "done" else self.waiting
        if group:
            self.line.leave(group.pop(which % len(group)))
        for ticket in self.line.next(self.now_s, self.width):
            self.waiting.remove(ticket)
            assert ticket.running != (ticket.turned_away is not None)
            if ticket.running:
                assert ticket.deadline_s > self.now_s
                self.running.append(ticket)


@given(steps, st.integers(1, 6), shares)
def test_counts_hold_and_no_share_is_exceeded_whatever_happens(
    played: list[tuple[str, int, float]], width: int, parts: tuple[float, ...]
):
    play = Play(RULES._replace(shares=parts), width)
    for step in played:
        play.step(*step)
        assert play.line.running == len(play.running) <= width
        assert play.line.waiting == len(play.waiting) <= RULES.waiting
        for priority in Priority:
            of_its_kind = sum(each.priority >= priority for each in play.running)
            assert of_its_kind <= max(1, int(parts[priority] * width))


@given(steps, st.integers(1, 6))
def test_a_free_place_is_never_left_empty_while_somebody_waits(played: list[tuple[str, int, float]], width: int):
    play = Play(RULES, width)
    for step in played:
        play.step(*step)
        if step[0] in ("done", "leave"):
            assert not play.waiting or len(play.running) == width


@given(st.lists(st.sampled_from(Priority), min_size=2, max_size=8))
def test_the_most_important_goes_first_and_within_a_priority_the_first_to_come(priorities: list[Priority]):
    line = Line(RULES)
    holder, _ = line.arrive(Priority.LOW, 0.0, FOREVER, 1)
    tickets = [line.arrive(priority, 0.0, FOREVER, 1)[0] for priority in priorities]
    order: list[Ticket] = []
    while len(order) < len(tickets):
        line.leave(order[-1] if order else holder)
        order += line.next(0.0, 1)
    assert order == sorted(tickets, key=lambda each: each.priority)  # sorted keeps the order of equals


def served(line: Line, every_s: float, arrivals_each: int, seconds: float) -> list[tuple[float, Reason | None]]:
    """A server of one place that takes `every_s` for each, and the waits of what it was offered."""
    running, _ = line.arrive(Priority.NORMAL, 0.0, FOREVER, 1)
    now_s, waits = 0.0, []
    while now_s < seconds:
        for _ in range(arrivals_each):
            line.arrive(Priority.NORMAL, now_s, FOREVER, 1)
        now_s += every_s
        line.leave(running)
        for ticket in line.next(now_s, 1):
            waits.append((now_s - ticket.since_s, ticket.turned_away))
            running = ticket if ticket.running else running
    return waits


def test_a_standing_queue_is_kept_short_by_turning_away_what_waited_too_long():
    waits = served(Line(RULES._replace(waiting=100_000)), 0.001, 3, 2.0)
    late = waits[len(waits) // 2 :]
    admitted = [wait_s for wait_s, reason in late if reason is None]
    # One wait in an interval is let pass unjudged.
    assert sorted(admitted)[int(0.98 * len(admitted))] <= 2 * RULES.target_s + 1e-9
    assert max(admitted) <= 3 * RULES.target_s
    assert all(reason in (None, Reason.QUEUE_DELAY) for _, reason in late)
    assert len(admitted) >= 0.9 * 1.0 / 0.001  # the server was never idle


def test_a_burst_that_drains_within_the_interval_is_not_turned_away():
    line = Line(RULES._replace(waiting=100_000))
    running, _ = line.arrive(Priority.NORMAL, 10.0, FOREVER, 1)
    for _ in range(90):
        line.arrive(Priority.NORMAL, 10.0, FOREVER, 1)
    now_s = 10.0
    for _ in range(90):
        now_s += 0.001
        line.leave(running)
        (running,) = line.next(now_s, 1)
        assert running.running


def test_work_that_nobody_gets_to_is_turned_away_at_the_door_while_one_waits_to_see_whether_that_is_still_so():
    line = Line(RULES._replace(waiting=100_000))
    line.arrive(Priority.CRITICAL, 0.0, FOREVER, 1)
    waited: list[Ticket] = []
    refused: list[Ticket] = []
    now_s = 0.0
    while now_s < 1.0:
        ticket, _ = line.arrive(Priority.LOW, now_s, FOREVER, 1)
        (waited if ticket.turned_away is None else refused).append(ticket)
        for late in [each for each in waited if now_s - each.since_s >= RULES.interval_s]:
            line.leave(late)
        now_s += 0.001
    assert {each.turned_away for each in refused} == {Reason.QUEUE_DELAY}
    # A burst may buffer for one interval; from then on each interval has one that waits.
    assert len(waited) <= RULES.interval_s / 0.001 + 1.0 / RULES.interval_s + 2
    assert line.waiting == 1
    order, _ = line.arrive(Priority.CRITICAL, now_s, FOREVER, 1)
    assert order.turned_away is None


def test_the_door_opens_with_the_first_place_and_after_a_quiet_while():
    line = Line(RULES._replace(waiting=100_000))
    holder, _ = line.arrive(Priority.LOW, 0.0, FOREVER, 1)
    first, _ = line.arrive(Priority.LOW, 0.0, FOREVER, 1)
    assert asked_for_an_interval(line, 0.0) is Reason.QUEUE_DELAY
    line.leave(holder)
    assert first in list(line.next(0.12, 1))
    assert line.arrive(Priority.LOW, 0.12, FOREVER, 1)[0].turned_away is None
    assert asked_for_an_interval(line, 0.12) is Reason.QUEUE_DELAY
    assert line.arrive(Priority.LOW, 9.0, FOREVER, 1)[0].turned_away is None


def asked_for_an_interval(line: Line, from_s: float) -> Reason | None:
    """What becomes of the last of some low work that comes for a little more than an interval."""
    tickets = [line.arrive(Priority.LOW, from_s + n * RULES.interval_s / 10, FOREVER, 1)[0] for n in range(1, 12)]
    return tickets[-1].turned_away


def test_a_full_queue_gives_a_place_of_low_work_to_an_order_and_none_to_its_equal():
    line = Line(RULES._replace(waiting=1))
    line.arrive(Priority.LOW, 0.0, FOREVER, 1)
    low, _ = line.arrive(Priority.LOW, 0.0, FOREVER, 1)
    order, evicted = line.arrive(Priority.CRITICAL, 0.0, FOREVER, 1)
    assert evicted is low
    assert order.turned_away is None
    second, evicted = line.arrive(Priority.CRITICAL, 0.0, FOREVER, 1)
    assert evicted is None
    assert second.turned_away is Reason.LIMIT
