"""The sample shop's plan: in time order, order by order, at the asked rate."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from headrace.devkit.tenants import TENANTS, seeded_uuid4
from headrace.devkit.traffic import SLOW_TOOL, OrderStep, ToolStep, plan, slow_factor
from runtime.clock import ManualClock

RATES = st.sampled_from([1.0, 20.0, 200.0, 1000.0])
SEEDS = st.integers(0, 2**32)


def steps(rate_per_s: float, seed: int, count: int = 600):
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC), seed=seed)
    return list(itertools.islice(plan(rate_per_s=rate_per_s, run="r", uniform=clock.uniform), count))


@given(RATES, SEEDS)
def test_steps_come_in_the_order_of_their_due_times_and_at_the_asked_rate(rate_per_s: float, seed: int):
    made = steps(rate_per_s, seed)
    times = [step.at_s for step in made]
    assert times == sorted(times)
    assert abs(len(made) / rate_per_s - times[-1]) <= 1.0 / rate_per_s


@given(RATES, SEEDS)
def test_committed_steps_of_an_order_are_numbered_without_a_gap_and_belong_to_one_tenant(rate_per_s: float, seed: int):
    orders = defaultdict(list)
    for step in steps(rate_per_s, seed):
        if isinstance(step, OrderStep) and not step.rolled_back:
            orders[step.order_id].append(step)
    for of_one in orders.values():
        assert [step.seq for step in of_one] == list(range(len(of_one)))
        assert len({step.tenant.id for step in of_one}) == 1
        assert of_one[0].status == "created"
        assert all(step.status in ("confirmed", "failed") for step in of_one[1:])
        assert len(of_one) <= 2


@given(SEEDS)
def test_the_same_randomness_gives_the_same_plan(seed: int):
    assert steps(20.0, seed, 100) == steps(20.0, seed, 100)


@given(SEEDS)
def test_latencies_are_positive_and_have_three_decimals(seed: int):
    for step in steps(200.0, seed):
        if isinstance(step, ToolStep):
            assert step.latency_ms > 0
            assert round(step.latency_ms, 3) == step.latency_ms


def test_about_one_transaction_in_twenty_is_rolled_back():
    made = steps(200.0, 1, 20_000)
    assert 0.04 < sum(step.rolled_back for step in made) / len(made) < 0.06


def test_only_the_slow_tool_has_slow_spells_and_they_come_back():
    slow_at = [at for at in range(140) if slow_factor(SLOW_TOOL, at) > 1]
    assert slow_at == [*range(8, 16), *range(68, 76), *range(128, 136)]
    assert all(slow_factor("menu_lookup", at) == 1 for at in range(140))


@given(st.text())
def test_seeded_ids_are_stable_version_4_uuids(text: str):
    made = seeded_uuid4(text)
    assert made == seeded_uuid4(text)
    assert uuid.UUID(made).version == 4


def test_the_sample_tenants_never_change_and_share_all_traffic():
    assert [tenant.id for tenant in TENANTS] == [
        seeded_uuid4("headrace sample tenant bakery"),
        seeded_uuid4("headrace sample tenant bookshop"),
        seeded_uuid4("headrace sample tenant florist"),
    ]
    assert sum(tenant.share for tenant in TENANTS) == 1.0
