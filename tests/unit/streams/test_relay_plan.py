from __future__ import annotations

from dataclasses import replace

from streams import relay_plan
from streams.relay_plan import Found, Lane, Scan, ScanPlan, Seen

YOUNG_S = 60.0


def observed(
    plan: ScanPlan, top_id: int, first_id: int | None, now_s: float, took_s: float = 0.001, xmin: int = 0, xmax: int = 0
) -> ScanPlan:
    scan = relay_plan.next_scan(plan, now_s)
    return relay_plan.observe(plan, scan, Found(top_id, first_id, took_s, xmin, xmax), now_s, YOUNG_S)


def settled(top_id: int, first_id: int | None = None) -> ScanPlan:
    """A plan that has looked twice, long enough apart, while nobody wrote; lanes are due from 0 s on."""
    plan = relay_plan.start(0, -1.0)
    scan = Scan(Lane.FRESH, 0, 2**63 - 1)
    for now_s in (-1.0, 0.0):
        plan = relay_plan.observe(plan, scan, Found(top_id, first_id, 0.001, 9, 9), now_s, YOUNG_S)
    return replace(plan, late_due_s=0.25, sweep_due_s=10.0)


def test_a_new_relay_looks_from_the_stored_hint_on():
    assert relay_plan.next_scan(relay_plan.start(700, 0.0), 0.0)[:2] == (Lane.FRESH, 700)


def test_the_fresh_lane_follows_once_all_who_could_add_an_id_have_ended():
    plan = observed(relay_plan.start(0, 0.0), 900, None, 0.0, xmin=50, xmax=60)
    assert plan.fresh_id == 0
    plan = observed(replace(plan, late_due_s=99.0), 900, None, 1.0, xmin=59, xmax=70)
    assert plan.fresh_id == 0, "a transaction below 60 is still open"
    plan = observed(plan, 950, None, 1.1, xmin=60, xmax=80)
    assert plan.fresh_id == 900, "ids up to 950 are waited for from now on"


def test_the_fresh_lane_waits_for_an_id_that_was_given_out_an_instant_before_its_transaction_got_a_number():
    plan = observed(relay_plan.start(0, 0.0), 900, None, 0.0, xmin=60, xmax=60)
    assert observed(plan, 900, None, relay_plan.SETTLE_S / 2, xmin=60, xmax=60).fresh_id == 0
    assert observed(plan, 900, None, relay_plan.SETTLE_S, xmin=60, xmax=60).fresh_id == 900


def test_a_transaction_that_stays_open_for_long_is_left_to_the_other_lanes():
    plan = observed(relay_plan.start(0, 0.0), 900, None, 0.0, xmin=50, xmax=60)
    plan = replace(plan, late_due_s=999.0, sweep_due_s=999.0)
    assert observed(plan, 900, None, YOUNG_S - 1, xmin=50, xmax=99).fresh_id == 0
    assert observed(plan, 900, None, YOUNG_S, xmin=50, xmax=99).fresh_id == 900


def test_a_waiting_row_holds_the_fresh_lane_right_before_it():
    assert settled(900, first_id=17).fresh_id == 16


def test_the_hint_follows_at_the_distance_of_young_rows():
    plan = settled(100)
    plan = observed(plan, 100, None, 59.0)
    assert plan.low_id == 0
    plan = observed(plan, 100, None, 61.0)
    assert plan.low_id == 100


def test_the_hint_does_not_pass_a_row_that_waits():
    plan = settled(100)
    assert relay_plan.next_scan(plan, 61.0) == (Lane.LATE, 0, 100)
    assert observed(plan, 100, 40, 61.0).low_id == 39


def test_a_long_history_is_left_to_the_sweep():
    plan = settled(1_000_000)
    assert relay_plan.next_scan(plan, 1.0) == (Lane.LATE, 950_000, 1_000_000)
    plan = observed(plan, 1_000_000, None, 20.0)
    assert relay_plan.next_scan(plan, 20.0) == (Lane.SWEEP, 900_000, 950_000)


def test_ids_that_went_back_make_it_look_at_everything():
    plan = ScanPlan(500, 900, samples=((0.0, 900),), late_due_s=9.0, sweep_due_s=9.0)
    assert observed(plan, 3, 1, 0.0) == relay_plan.start(0, 0.0)


def test_a_slow_lane_rests_nineteen_times_as_long_as_it_took():
    plan = settled(100)
    assert observed(plan, 100, None, 1.0, took_s=2.0).late_due_s == 39.0
    swept = observed(ScanPlan(100, 100), 100, None, 20.0, took_s=2.0)
    assert swept.sweep_due_s == 58.0


def test_a_quiet_table_collects_no_samples():
    plan = relay_plan.start(0, 0.0)
    for second in range(1000):
        plan = observed(plan, 100, None, float(second))
    assert len(plan.samples) <= 2


def test_a_history_of_any_length_is_passed_in_stretches_that_one_statement_can_look_at():
    plan, top_id, now_s = relay_plan.start(0, 0.0), 100_000_000, 0.0
    while plan.fresh_id < top_id:
        plan = replace(plan, late_due_s=1e9, sweep_due_s=1e9)
        scan = relay_plan.next_scan(plan, now_s)
        assert scan.after_id == plan.fresh_id
        assert min(scan.up_to_id, top_id) - scan.after_id <= relay_plan.STRETCH_IDS
        now_s += 1.0
        plan = relay_plan.observe(plan, scan, Found(top_id, None, 0.1, 9, 9), now_s, YOUNG_S)
        assert now_s <= 2 + top_id / relay_plan.STRETCH_IDS
    assert relay_plan.next_scan(plan, now_s) == (Lane.FRESH, top_id, 2**63 - 1)


def test_shards_come_in_the_order_of_their_oldest_row():
    seen = [Seen(1, 9, 0), Seen(2, 3, 0), Seen(3, 9, 0)]
    assert relay_plan.shards_to_lock(seen, (), more=False) == [9, 3]
    among_all = relay_plan.shards_to_lock(seen, range(3, 60), more=True)
    assert among_all[:9] == [9, 3, 0, 1, 2, 60, 61, 62, 63]
    assert sorted(among_all) == list(range(64))
