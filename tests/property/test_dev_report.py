"""The comparison of delivered with committed finds each kind of fault, and only that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.devkit.ledger import Committed, Received
from headrace.devkit.report import compare_delivery, percentiles_ms


def committed(orders: int, steps: int = 2):
    return [
        Committed("order", o * steps + s, f"ob-{o}-{s}", "t", f"order-{o}", s, 10.0 + o, 0)
        for s in range(steps)
        for o in range(orders)
    ]


def received(events: list[Committed], at_s: float = 20.0):
    return [
        Received(e.push_id, e.tenant, "order_status", f"orders:{e.key}", f"e.0-{n}", at_s) for n, e in enumerate(events)
    ]


COUNTS = st.integers(1, 20)


@given(COUNTS)
def test_what_came_once_and_in_order_has_no_fault(orders: int):
    events = committed(orders)
    result = compare_delivery(events, received(events))
    assert (result.committed, result.delivered) == (2 * orders, 2 * orders)
    assert (result.lost, result.duplicated, result.out_of_order) == (0, 0, 0)


@given(COUNTS, st.data())
def test_each_missing_event_is_lost(orders: int, data: st.DataObject):
    events = committed(orders)
    kept = [event for event in events if data.draw(st.booleans())]
    result = compare_delivery(events, received(kept))
    assert (result.delivered, result.lost) == (len(kept), len(events) - len(kept))


@given(COUNTS, st.data())
def test_each_repeat_is_a_duplicate_and_never_an_order_fault(orders: int, data: st.DataObject):
    events = committed(orders)
    again = data.draw(st.lists(st.sampled_from(events), max_size=5))
    result = compare_delivery(events, received([*events, *again]))
    assert (result.lost, result.duplicated, result.out_of_order) == (0, len(again), 0)


@given(COUNTS)
def test_an_order_whose_steps_come_the_wrong_way_round_is_out_of_order(orders: int):
    events = committed(orders)
    result = compare_delivery(events, received(events[::-1]))
    assert (result.lost, result.out_of_order) == (0, orders)


def test_a_repeated_window_or_alert_is_a_duplicate_but_a_conflated_value_is_not():
    logged = [Received("tlw:x:1:2", "t", "tool_latency_window", "tools:x", f"e.0-{n}", 1.0) for n in range(2)]
    conflated = [Received("tlw:x:1:1", "t", "tool_latency_window", "tools:x", None, 1.0) for n in range(3)]
    assert compare_delivery([], [*logged, *conflated]).duplicated == 1


def test_the_same_id_of_two_tenants_is_no_duplicate():
    both = [Received("tlw:x:1:2", tenant, "tool_latency_window", "tools:x", "e.0-1", 1.0) for tenant in "ab"]
    assert compare_delivery([], both).duplicated == 0


def test_an_order_event_at_the_wrong_tenant_is_misdelivered_and_does_not_count_as_delivered():
    events = committed(1, 1)
    stray = [Received("ob-0-0", "other", "order_status", "orders:order-0", "e.0-1", 1.0)]
    result = compare_delivery(events, stray)
    assert (result.lost, result.misdelivered) == (1, 1)


def test_an_event_that_nobody_committed_counts_unless_an_earlier_run_left_it():
    events = [Committed("order", 5, "ob-5-100", "t", "order-1", 0, 10.0, 0)]
    left = Received("ob-4-99", "t", "order_status", "orders:order-0", "e.0-1", 1.0)
    made_up = Received("ob-6-101", "t", "order_status", "orders:order-0", "e.0-2", 1.0)
    assert compare_delivery(events, [left, *received(events)]).uncommitted == 0
    assert compare_delivery(events, [left, *received(events), made_up]).uncommitted == 1


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_values_of_the_sample_and_rise(values: list[float]):
    told = [value for value in percentiles_ms(values).values() if value is not None]
    assert len(told) == 3
    assert told == sorted(told)
    assert set(told) <= {round(v, 1) for v in values}


def test_without_values_there_are_no_percentiles():
    assert percentiles_ms([]) == {"p50": None, "p95": None, "p99": None}
