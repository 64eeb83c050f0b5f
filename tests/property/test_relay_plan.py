from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streams import relay_plan
from streams.relay_plan import MOST_IDS, SWEEP_EVERY_S, Found, Lane, Scan, ScanPlan, Seen

YOUNG_S = 60.0
LIMIT = 5


@dataclass
class Table:
    """The outbox as the relay's statements see it."""

    next_id: int = 1
    open: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    published: list[int] = field(default_factory=list)
    committed: set[int] = field(default_factory=set)

    order_of: dict[int, int] = field(default_factory=dict)

    def insert(self, order: int = 0, gap_ids: int = 0) -> None:
        """A transaction of its own for each row, so that its number may be the row's id; `gap_ids` were rolled back."""
        self.next_id += gap_ids
        self.open.add(self.next_id)
        self.order_of[self.next_id] = order
        self.next_id += 1

    def commit(self, place: int) -> None:
        if self.open:
            row = sorted(self.open)[place % len(self.open)]
            self.open.discard(row)
            self.waiting.add(row)
            self.committed.add(row)

    def peek(self, scan: Scan) -> tuple[Found, list[Seen]]:
        rows = sorted(row for row in self.waiting if scan.after_id < row <= scan.up_to_id)[:LIMIT]
        xmin = min(self.open, default=self.next_id)
        found = Found(max(self.committed, default=0), rows[0] if rows else None, 0.001, xmin, self.next_id)
        return found, [Seen(row, row % 64, 100) for row in rows]


def look(plan: ScanPlan, table: Table, now_s: float, shards: range) -> tuple[ScanPlan, Lane]:
    """One look of a relay that gets only some shards."""
    scan = relay_plan.next_scan(plan, now_s)
    found, seen = table.peek(scan)
    plan = relay_plan.observe(plan, scan, found, now_s, YOUNG_S)
    taken = relay_plan.take(seen, shards, LIMIT, 10_000)
    table.waiting -= set(taken)
    table.published += taken
    return plan, scan.lane


steps = st.lists(
    st.one_of(
        st.just(("insert", 0)),
        st.tuples(st.just("commit"), st.integers(0, 20)),
        st.tuples(st.just("look"), st.integers(1, 64)),
        st.tuples(st.just("wait"), st.integers(1, 90)),
    ),
    max_size=150,
)


def play(actions: list[tuple[str, int]]) -> tuple[ScanPlan, Table, float]:
    table, now_s = Table(), 0.0
    plan = relay_plan.start(0, now_s)
    for action, number in actions:
        if action == "insert":
            table.insert()
        elif action == "commit":
            table.commit(number)
        elif action == "look":
            before = plan
            plan, lane = look(plan, table, now_s, range(number))
            assert plan.low_id <= plan.fresh_id
            if lane is Lane.FRESH:
                # What can be seen and was not dealt with is never behind the fresh lane's begin and the late lane's.
                assert not [row for row in table.waiting if before.fresh_id < row <= plan.fresh_id]
        else:
            now_s += number / 10
    return plan, table, now_s


@given(steps)
def test_every_committed_row_is_published_once_in_whatever_order_transactions_end(actions: list[tuple[str, int]]):
    plan, table, now_s = play(actions)
    for row in sorted(table.open):
        table.commit(row)
    for _ in range(200):
        now_s += SWEEP_EVERY_S
        lane = Lane.SWEEP
        while lane is not Lane.FRESH:
            plan, lane = look(plan, table, now_s, range(64))
    assert not table.waiting
    assert sorted(table.published) == sorted(table.committed)


orderly = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 2)),
        st.tuples(st.just("insert after a gap"), st.integers(0, 2)),
        st.tuples(st.just("commit"), st.integers(0, 20)),
        st.tuples(st.just("look"), st.integers(1, 6)),
    ),
    max_size=150,
)


@given(orderly)
def test_events_of_an_order_are_published_in_order_however_late_each_commits(actions: list[tuple[str, int]]):
    """Writers of one order follow each other, those of different orders do not; looks are 0.05 to 0.3 s apart."""
    table, now_s = Table(), 0.0
    plan = relay_plan.start(0, now_s)
    for action, number in actions:
        if action.startswith("insert") and number not in {table.order_of[row] for row in table.open}:
            table.insert(number, relay_plan.STRETCH_IDS if "gap" in action else 0)
        elif action == "commit":
            table.commit(number)
        elif action == "look":
            now_s += 0.05 * number
            plan, _ = look(plan, table, now_s, range(64))
    while table.open:
        table.commit(0)
    for _ in range(4 * len(actions) + 20):
        now_s, lane = now_s + 0.3, Lane.LATE
        while lane is not Lane.FRESH:
            plan, lane = look(plan, table, now_s, range(64))
    assert not table.waiting
    for order in range(3):
        published = [row for row in table.published if table.order_of[row] == order]
        assert published == sorted(published)


@given(steps)
def test_rows_that_are_seen_together_are_published_in_order_of_id(actions: list[tuple[str, int]]):
    _, table, _ = play([action for action in actions if action[0] != "commit"])
    assert table.published == sorted(table.published)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1e6))
def test_a_due_lane_never_looks_at_more_than_a_chunk_of_history(low_id: int, sweep_from_id: int, now_s: float):
    plan = ScanPlan(low_id, low_id, sweep_from_id=sweep_from_id)
    scan = relay_plan.next_scan(plan, now_s)
    if scan.lane is Lane.SWEEP:
        assert 0 <= scan.after_id < scan.up_to_id <= low_id
        assert scan.up_to_id - scan.after_id <= MOST_IDS


@given(st.integers(1, 2_000_000), st.floats(0, 20))
def test_sweeps_reach_every_id_below_the_hint(low_id: int, took_s: float):
    plan, now_s, reached = ScanPlan(low_id, low_id), 0.0, low_id
    while reached > 0:
        now_s += 1000.0
        scan = relay_plan.next_scan(plan, now_s)
        assert (scan.lane, scan.up_to_id) == (Lane.SWEEP, reached)
        plan = relay_plan.observe(plan, scan, Found(low_id, None, took_s, 0, 0), now_s, YOUNG_S)
        reached = scan.after_id
    assert relay_plan.next_scan(plan, now_s + 1000.0).up_to_id == low_id


rows = st.lists(st.builds(Seen, st.integers(1, 10**6), st.integers(0, 63), st.integers(0, 1000)), max_size=40)


@given(rows, st.sets(st.integers(0, 63)), st.integers(1, 30), st.integers(1, 5000))
def test_what_is_taken_is_a_prefix_of_our_shards_within_the_bytes(
    seen: list[Seen], shards: set[int], most_rows: int, most: int
):
    ours = [row for row in seen if row.shard in shards]
    taken = relay_plan.take(seen, shards, most_rows, most)
    assert taken == [row.id for row in ours[: len(taken)]]
    total = sum(row.payload_bytes for row in ours[: len(taken)])
    assert len(taken) == 1 or total <= most
    assert bool(taken) == bool(ours)
    assert len(taken) <= most_rows
    if len(taken) < min(len(ours), most_rows):
        assert total + ours[len(taken)].payload_bytes > most


@given(st.integers(0, 10**6), st.floats(0.001, 1), st.floats(1, 60))
def test_the_pause_grows_from_poll_to_idle_and_no_further(empty_polls: int, poll_s: float, idle_poll_s: float):
    pause_s = relay_plan.pause_s(empty_polls, poll_s=poll_s, idle_poll_s=idle_poll_s)
    assert poll_s <= pause_s <= idle_poll_s
    assert pause_s <= relay_plan.pause_s(empty_polls + 1, poll_s=poll_s, idle_poll_s=idle_poll_s)


@given(st.integers(1, 10_000), st.integers(0, 10**6))
def test_a_batch_shrinks_with_failures_but_never_to_nothing(batch_rows: int, failures: int):
    smaller = relay_plan.rows_to_take(batch_rows, failures)
    assert 1 <= smaller <= batch_rows
    assert relay_plan.rows_to_take(batch_rows, 0) == batch_rows
    assert relay_plan.rows_to_take(batch_rows, failures + 1) <= smaller


@given(st.lists(st.floats(0, 1), max_size=40))
def test_looks_beside_the_fresh_lane_become_small_when_they_take_long_and_grow_again(times_s: list[float]):
    plan = relay_plan.start(0, 0.0)
    for took_s in times_s:
        before = plan.look_ids
        plan = relay_plan.observe(plan, Scan(Lane.SWEEP, 0, 9), Found(9, None, took_s, 0, 0), 0.0, YOUNG_S)
        assert relay_plan.LEAST_IDS <= plan.look_ids <= MOST_IDS
        if took_s > 2 * relay_plan.LOOK_S:
            assert plan.look_ids == max(relay_plan.LEAST_IDS, before // 2)
        else:
            assert plan.look_ids >= before
