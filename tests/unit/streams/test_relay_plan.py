from __future__ import annotations

from streams import relay_plan
from streams.relay_plan import Found, Lane, Scan, ScanPlan, Seen

YOUNG_S = 60.0


def observed(plan: ScanPlan, top_id: int, first_id: int | None, now_s: float, took_s: float = 0.001) -> ScanPlan:
    scan = relay_plan.next_scan(plan, now_s)
    return relay_plan.observe(plan, scan, Found(top_id, first_id, took_s), now_s, YOUNG_S)


def test_a_new_relay_looks_from_the_stored_hint_on():
    assert relay_plan.next_scan(relay_plan.start(700, 0.0), 0.0)[:2] == (Lane.FRESH, 700)


def test_an_empty_look_moves_the_fresh_lane_to_the_highest_id():
    assert observed(relay_plan.start(0, 0.0), 900, None, 0.0).fresh_id == 900


def test_a_waiting_row_holds_the_fresh_lane_right_before_it():
    assert observed(relay_plan.start(0, 0.0), 900, 17, 0.0).fresh_id == 16


def test_a_batch_that_was_marked_whole_is_not_looked_at_again():
    plan = observed(relay_plan.start(0, 0.0), 900, 17, 0.0)
    scan, seen = Scan(Lane.FRESH, 0, 10**9), [Seen(17, 3, 10), Seen(19, 4, 10)]
    assert relay_plan.dealt_with(plan, scan, seen, 1).fresh_id == 16
    assert relay_plan.dealt_with(plan, scan, seen, 2).fresh_id == 19


def test_the_hint_follows_at_the_distance_of_young_rows():
    plan = observed(relay_plan.start(0, 0.0), 100, None, 0.0)
    plan = observed(plan, 100, None, 59.0)
    assert plan.low_id == 0
    plan = observed(plan, 100, None, 61.0)
    assert plan.low_id == 100


def test_the_hint_does_not_pass_a_row_that_waits():
    plan = observed(relay_plan.start(0, 0.0), 100, None, 0.0)
    assert relay_plan.next_scan(plan, 61.0) == (Lane.LATE, 0, 100)
    assert observed(plan, 100, 40, 61.0).low_id == 39


def test_a_long_history_is_left_to_the_sweep():
    plan = observed(relay_plan.start(0, 0.0), 1_000_000, None, 0.0)
    assert relay_plan.next_scan(plan, 1.0) == (Lane.LATE, 950_000, 1_000_000)
    plan = observed(plan, 1_000_000, None, 20.0)
    assert relay_plan.next_scan(plan, 20.0) == (Lane.SWEEP, 900_000, 950_000)


def test_ids_that_went_back_make_it_look_at_everything():
    plan = ScanPlan(500, 900, samples=((0.0, 900),), late_due_s=9.0, sweep_due_s=9.0)
    assert observed(plan, 3, 1, 0.0) == relay_plan.start(0, 0.0)


def test_a_slow_lane_rests_nineteen_times_as_long_as_it_took():
    plan = observed(relay_plan.start(0, 0.0), 100, None, 0.0)
    assert observed(plan, 100, None, 1.0, took_s=2.0).late_due_s == 39.0
    swept = observed(ScanPlan(100, 100), 100, None, 20.0, took_s=2.0)
    assert swept.sweep_due_s == 58.0


def test_a_quiet_table_collects_no_samples():
    plan = relay_plan.start(0, 0.0)
    for second in range(1000):
        plan = observed(plan, 100, None, float(second))
    assert len(plan.samples) <= 2


def test_shards_come_in_the_order_of_their_oldest_row():
    assert relay_plan.shards_of([Seen(1, 9, 0), Seen(2, 3, 0), Seen(3, 9, 0)]) == [9, 3]
