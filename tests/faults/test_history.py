"""The judge of the fault suite sees each kind of fault: it would be of no use if it could only say "clean"."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from headrace.devkit.ledger import Received
from streams.records import Record
from tests.support.fault_history import Fact, Sight, judge
from tests.support.fault_plan import SERVER_KINDS, Kind, draw
from tests.support.fault_trail import Trail

FACTS = [Fact(f"e{n}", f"t{n % 2}", f"o{n % 6}", n) for n in range(60)]
SIGHTS = [Sight(fact.id, fact.tenant) for fact in FACTS]


@given(st.randoms(use_true_random=False))
def test_any_interleaving_that_keeps_each_aggregate_in_order_is_clean(rng: random.Random):
    queues = [[s for s, f in zip(SIGHTS, FACTS, strict=True) if f.aggregate == f"o{n}"] for n in range(6)]
    arrived = []
    while any(queues):
        arrived.append(rng.choice([queue for queue in queues if queue]).pop(0))
    assert judge("here", FACTS, arrived).clean


@given(st.integers(0, 59))
def test_one_lost_one_doubled_and_one_that_nobody_committed_are_each_seen(index: int):
    assert judge("here", FACTS, SIGHTS[:index] + SIGHTS[index + 1 :]).lost == 1
    assert judge("here", FACTS, [*SIGHTS, SIGHTS[index]]).doubled == 1
    assert judge("here", FACTS, [*SIGHTS, Sight("x", "t0")]).uncommitted == 1


@given(st.integers(0, 53))
def test_an_overtaken_event_is_seen_and_so_is_one_at_another_tenant(index: int):
    swapped = list(SIGHTS)
    swapped[index], swapped[index + 6] = swapped[index + 6], swapped[index]
    assert judge("here", FACTS, swapped).reordered == 1
    foreign = list(SIGHTS)
    foreign[index] = Sight(FACTS[index].id, "another")
    verdict = judge("here", FACTS, foreign)
    assert (verdict.misdelivered, verdict.lost) == (1, 1)
    assert FACTS[index].id in str(verdict)


@given(st.randoms(use_true_random=False))
def test_a_drawn_plan_has_what_was_asked_for_and_its_servers_outages_do_not_overlap(rng: random.Random):
    plan = draw(rng, seconds=60, processes=["relay", "worker-1"], kills=9, outages=5, durable_kafka=False)
    assert len([fault for fault in plan if fault.target not in SERVER_KINDS]) == 9
    outages = [fault for fault in plan if fault.target in SERVER_KINDS]
    assert len(outages) == 5
    assert all(one.at_s + one.lasts_s <= next_.at_s for one, next_ in itertools.pairwise(outages))
    assert plan == sorted(plan)


def test_with_enough_outages_every_kind_of_every_server_happens():
    plan = draw(random.Random(1), seconds=600, processes=["relay"], kills=1, outages=19, durable_kafka=True)
    happened = {(fault.target, fault.kind) for fault in plan if fault.target in SERVER_KINDS}
    assert happened == {(s, k) for s, kinds in SERVER_KINDS.items() for k in kinds} | {("kafka", Kind.RESTART)}


def test_the_trail_of_a_lost_event_names_the_places_it_came_to_and_its_neighbours():
    orders = [Record("orders", 2, at, 0, b"k", b"", (("ce_id", f"e{at}".encode()),)) for at in range(4)]
    sources = {0: "orders/2/0", 1: "orders/2/1", 2: "orders/2/3"}
    push = [
        Record("push", 0, at, 0, b"t0", b"", (("pid", f"e{source[-1]}".encode()), ("src", source.encode())))
        for at, source in sources.items()
    ]
    received = [Received(f"e{at}", "t0", "order_status", "orders:1", f"ab.0-{at}", 0.0) for at in (0, 2)]
    trail = Trail([orders], [push], received)
    assert trail.of("e9") == "e9: not in the orders topic"
    assert "orders/2 at 2 (00:00:00.000); not in push" in trail.of("e2")
    assert "orders/2/1 is push/0 at 1 " in trail.of("e2")
    assert "push/0 at 1 (00:00:00.000); the tenant's client had offset [0], then [2] of it" in trail.of("e1")
