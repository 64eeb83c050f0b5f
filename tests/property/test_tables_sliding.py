"""Windows of any size and step are what a direct recount of the events says."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tables.query import duration_text
from tables.scanning import read_page
from tables.sliding import Sliding
from tests.support.aio import run
from tests.support.tables import BASE_MS, T0, Local, ask, between, latency_kind

KIND = latency_kind()

steps = st.lists(st.tuples(st.sampled_from(["push", "drop"]), st.integers(1, 3)), max_size=40)


@given(steps)
def test_a_moving_total_is_the_sum_of_what_is_in_it(moves: list[tuple[str, int]]):
    sliding: Sliding[tuple[int, ...]] = Sliding(lambda left, right: left + right)
    held: list[int] = []
    top = low = 0
    for move, count in moves:
        if move == "push":
            top += count
            sliding.push(top, (top,))
            held.append(top)
        else:
            low += count
            sliding.drop_before(low)
            held = [at for at in held if at >= low]
        # Also in order: merges that do not commute would notice.
        assert sliding.total() == (tuple(held) or None)


events = st.lists(
    st.tuples(st.integers(0, 600_000 - 1), st.sampled_from(["a", "b", "c"]), st.integers(1, 5000)), max_size=60
)


@settings(max_examples=60)
@given(events, st.integers(1, 12), st.integers(1, 12), st.integers(0, 600), st.integers(1, 600), st.integers(1, 50))
def test_windows_of_any_size_and_step_equal_a_recount(
    calls: list[tuple[int, str, int]], size: int, step: int, from_s: int, length_s: int, limit: int
):
    size_ms, step_ms = BASE_MS * size, BASE_MS * min(step, size)
    local = Local(KIND)
    by_base: dict[tuple[int, str], list[int]] = {}
    for at, tool, ms in calls:
        by_base.setdefault((at // BASE_MS * BASE_MS, tool), []).append(ms)
    for number, ((start, tool), latencies) in enumerate(by_base.items()):
        local.put((tool, ""), T0 + start, latencies, partition=number % 2)
    from_ms, to_ms = T0 + 1000 * from_s, T0 + 1000 * (from_s + length_s)
    params = between(from_ms, to_ms) | {"limit": str(limit)}
    params |= {"size": duration_text(size_ms), "step": duration_text(step_ms)}

    expected: Counter[tuple[int, str]] = Counter()
    for at, tool, ms in calls:
        latest = (T0 + at) // step_ms * step_ms
        for start in range(latest, T0 + at - size_ms, -step_ms):
            if start + size_ms > from_ms and start + size_ms - step_ms < to_ms and start >= 0:
                expected[start, tool] += 1000 * ms
    got: dict[tuple[int, str], int] = {}
    after: dict[str, str] = {}
    more = True
    while more:
        page = run(read_page(ask(KIND, params | after), local.rows, (0, 1)))
        for share in page.shares:
            assert (share.start_ms, share.subject[0]) not in got
            got[share.start_ms, share.subject[0]] = share.state.sum_us
        more = page.more
        if more:
            after = {"after": ask(KIND, params).cursor(page.shares[-1].place)}
    assert got == dict(expected)
    assert list(got) == sorted(got)
