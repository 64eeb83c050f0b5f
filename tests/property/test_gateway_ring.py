"""The ring against a plain list that forgets nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cursor import take
from gateway.resume import Place, Source, decide, event_id, parse
from gateway.ring import ENTRY_OVERHEAD_BYTES, Entry, Limits, Ring

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 50)), max_size=200)


Steps = list[tuple[str, int, int]]


def build(steps: Steps, messages: int, size_bytes: int, start: int) -> tuple[Ring, list[Entry]]:
    ring, everything, offset = Ring(Limits(size_bytes, messages, 60.0), start), [], start - 1
    for tenant, step, size in steps:
        offset += step
        entry = Entry(offset, tenant, "orders:1", b"x" * size, 0.0)
        everything.append(entry)
        ring.append(entry)
    return ring, everything


@settings(max_examples=200, deadline=None)
@given(
    steps=STEPS,
    messages=st.integers(1, 150),
    size_bytes=st.integers(1, 60_000),
    start=st.integers(0, 20),
    tenant=st.sampled_from("abcd"),
    cursor=st.integers(0, 500),
)
def test_what_is_covered_is_there_without_a_hole_and_within_the_limits(
    steps: Steps, messages: int, size_bytes: int, start: int, tenant: str, cursor: int
):
    ring, everything = build(steps, messages, size_bytes, start)
    assert len(ring) <= messages
    assert ring.size_bytes <= size_bytes
    assert ring.size_bytes == sum(
        len(e.chunk) + ENTRY_OVERHEAD_BYTES for e in everything[len(everything) - len(ring) :]
    )
    if ring.covers(tenant, cursor):
        expected = [e for e in everything if e.tenant == tenant and e.offset >= cursor]
        assert list(ring.read(tenant, cursor, ring.end)) == expected


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, messages=st.integers(1, 150), cursor=st.integers(0, 500), budget=st.integers(1, 200))
def test_slices_give_everything_or_say_that_there_is_a_gap(steps: Steps, messages: int, cursor: int, budget: int):
    ring, everything = build(steps, messages, 10**9, 0)
    cursor = min(cursor, ring.end)
    chunks, at, gap = [], cursor, None
    for _ in range(1000):
        taken = take(ring, "a", at, lambda _c: True, upto=ring.end, budget_bytes=budget)
        chunks += taken.chunks
        at, gap = taken.cursor, gap or taken.gap
        if taken.live:
            break
    assert at == ring.end
    if gap is None:
        assert chunks == [e.chunk for e in everything if e.tenant == "a" and e.offset >= cursor]
    else:
        assert chunks == []


@given(
    epoch=st.text("0123456789abcdef", min_size=1, max_size=16),
    partition=st.integers(0, 511),
    offset=st.integers(-1, 10**17),
)
def test_ids_read_back_as_written(epoch: str, partition: int, offset: int):
    assert parse(event_id(epoch, partition, offset)) == Place(epoch, partition, offset)


@given(text=st.text(max_size=40))
def test_no_text_makes_the_decision_fail(text: str):
    start = decide(text, epoch="ab", partition=0, tenant="a", ring=Ring(Limits(1, 1, 1.0), 7), log_records=10)
    assert start.cursor >= 0 or start.source is Source.LOG
