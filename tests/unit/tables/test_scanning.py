from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest

from contracts.errors import QueryError
from tables.query import Place, rfc3339
from tables.scanning import SLICE_ROWS, read_page
from tables.shares import Page, Part, decode, encode, gathered, line_names, line_of
from tests.support.aio import run
from tests.support.tables import BASE_MS, T0, Local, ask, between, latency_kind

KIND = latency_kind()
HOUR = between(T0, T0 + 3_600_000)


def read(local: Local, range_: Mapping[str, str], *, partitions: tuple[int, ...] = (0,), **params: str) -> Page:
    return run(read_page(ask(local.kind, {**range_, **params}), local.rows, partitions))


def counts(page: Page) -> dict[tuple[int, str], int]:
    return {((s.start_ms - T0) // 1000, s.subject[0]): s.state.count for s in page.shares}


def test_rows_of_other_tenants_are_never_read():
    local = Local(KIND)
    local.put(("search", ""), T0, [1.0])
    local.put(("search", ""), T0, [1.0, 2.0], tenant="acm")
    local.put(("search", ""), T0, [1.0, 2.0], tenant="acmee")
    assert counts(read(local, HOUR)) == {(0, "search"): 1}


def test_longer_windows_are_sums_of_base_windows():
    local = Local(KIND)
    for n in range(12):
        local.put(("search", ""), T0 + n * BASE_MS, [5.0] * (n + 1))
    page = read(local, HOUR, size="1m")
    assert counts(page) == {(0, "search"): 21, (60, "search"): 57}


def test_sliding_windows_take_each_step():
    local = Local(KIND)
    for n in range(4):
        local.put(("search", ""), T0 + n * BASE_MS, [5.0])
    page = read(local, between(T0, T0 + 60_000), size="30s", step="10s")
    expected = {-20: 1, -10: 2, 0: 3, 10: 3, 20: 2, 30: 1}
    assert counts(page) == {(start, "search"): count for start, count in expected.items()}


def test_a_subject_is_read_by_its_key():
    local = Local(KIND)
    local.put(("search", ""), T0, [1.0])
    local.put(("search", "2"), T0, [1.0, 1.0])
    local.put(("price", "2"), T0, [1.0, 1.0, 1.0])
    assert counts(read(local, HOUR, tool="search", version="2")) == {(0, "search"): 2}
    assert [s.subject for s in read(local, HOUR, tool="search").shares] == [("search", ""), ("search", "2")]
    assert [s.subject for s in read(local, HOUR, version="2").shares] == [("price", "2"), ("search", "2")]


def test_a_window_is_closed_when_all_of_it_is():
    local = Local(KIND)
    local.put(("a", ""), T0, [1.0])
    local.put(("a", ""), T0 + BASE_MS, [1.0], closed=False)
    local.put(("b", ""), T0, [1.0])
    assert {s.subject[0]: s.closed for s in read(local, HOUR, size="1m").shares} == {"a": False, "b": True}


def test_pages_follow_each_other_without_gap_or_repeat():
    local = Local(KIND)
    for n in range(7):
        for tool in ("c", "a", "b"):
            local.put((tool, ""), T0 + n * BASE_MS, [1.0])
    whole = [share.place for share in read(local, HOUR).shares]
    assert len(whole) == 21
    assert whole == sorted(whole)
    places: list[Place] = []
    after: dict[str, str] = {}
    while True:
        page = read(local, HOUR | after, limit="4")
        places += [share.place for share in page.shares]
        if not page.more:
            break
        after = {"after": ask(KIND, HOUR).cursor(places[-1])}
    assert places == whole


def test_shares_of_several_partitions_are_merged_and_their_revisions_added():
    kind = latency_kind(merged_when_read=True)
    local = Local(kind)
    local.put(("a", ""), T0, [1.0, 2.0], partition=0)
    local.put(("a", ""), T0, [9.0], partition=1)
    both = read(local, HOUR, partitions=(0, 1)).shares[0]
    assert (both.state.count, both.positions, both.revision) == (3, {0: 1, 1: 0}, 3)


def test_parts_of_two_workers_make_the_page_that_one_would():
    kind = latency_kind(merged_when_read=True)
    local = Local(kind)
    for n in range(9):
        local.put(("ab"[n % 2], ""), T0 + n // 2 * BASE_MS, [1.0 + n], partition=n % 3)
    query = ask(kind, HOUR, limit="3")
    apart = [run(read_page(query, local.rows, (p,))) for p in range(3)]
    together = gathered([decode(encode(Part(page), kind.fold), kind.fold).page for page in apart], query)
    whole = run(read_page(query, local.rows, range(3)))
    assert [(s.place, s.state, s.positions) for s in together.shares] == [
        (s.place, s.state, s.positions) for s in whole.shares
    ]
    assert together.more
    assert together.partitions == {0, 1, 2}


def test_a_part_of_another_release_is_refused():
    raw = encode(Part(Page(frozenset({1}), more=False, shares=())), KIND.fold)
    with pytest.raises(ValueError, match="format"):
        decode(raw.replace(bytes([0x97, 1]), bytes([0x97, 2]), 1), KIND.fold)
    with pytest.raises(ValueError, match="no answer"):
        decode(b"<html>", KIND.fold)


def test_a_question_that_reads_too_much_is_refused():
    local = Local(KIND)
    for n in range(30):
        local.put((f"t{n}", ""), T0, [1.0])
    with pytest.raises(QueryError, match="at most"):
        run(read_page(ask(KIND, HOUR), local.rows, (0,), most_rows=29))


def test_a_large_question_lets_others_run():
    local = Local(KIND)
    for n in range(4 * SLICE_ROWS):
        local.put((f"t{n:05}", ""), T0, [1.0])

    async def beside() -> int:
        turns, reading = 0, asyncio.create_task(read_page(ask(KIND, HOUR, limit="5"), local.rows, (0,)))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert run(beside()) >= 4


def test_a_line_says_all_columns_and_whether_the_window_is_over_and_whole():
    local = Local(KIND)
    local.put(("search", "2"), T0, [10.0, 20.0])
    query = ask(KIND, HOUR, size="1m")
    share = run(read_page(query, local.rows, (0,))).shares[0]
    line = line_of(share, query, over_ms=T0 + 60_000, kept_from_ms=T0)
    assert list(line) == line_names(KIND)
    assert (line["tool"], line["version"], line["count"], line["revision"]) == ("search", "2", 2, 2)
    assert (line["window_start"], line["window_end"]) == (rfc3339(T0), rfc3339(T0 + 60_000))
    assert (line["closed"], line["whole"]) == (True, True)
    assert line_of(share, query, over_ms=T0 + 59_999, kept_from_ms=T0)["closed"] is False
    assert line_of(share, query, over_ms=T0 + 60_000, kept_from_ms=T0 + 1)["whole"] is False


def test_without_partitions_no_window_is_looked_at():
    eleven_days = ask(KIND, between(T0, T0 + 11 * 86_400_000))
    calls = 0

    def count(*_of: object) -> None:
        nonlocal calls
        calls += 1

    async def scenario() -> Page:
        sys.setprofile(count)
        try:
            return await read_page(eleven_days, Local(KIND).rows, ())
        finally:
            sys.setprofile(None)

    assert run(scenario()) == Page(frozenset(), more=False, shares=())
    assert calls < 1000 < len(eleven_days.starts())


def test_pages_that_end_early_because_rows_are_large_leave_nothing_out():
    locals_ = [Local(KIND, active=frozenset({n})) for n in range(2)]
    for n in range(30):
        # The first worker's rows are larger, so that its pages are shorter.
        locals_[0].put(("a", ""), T0 + n * BASE_MS, [1.5**k for k in range(40)])
        locals_[1].put(("b", ""), T0 + n * BASE_MS, [5.0], partition=1)
    asked, seen, pages = ask(KIND, HOUR), [], 0
    while True:
        parts = [run(read_page(asked, each.rows, each.active, page_bytes=300)) for each in locals_]
        page = gathered(parts, asked)
        seen += [share.place for share in page.shares]
        pages += 1
        if not page.more:
            break
        asked = replace(asked, after=seen[-1])
    assert seen == [(T0 + n * BASE_MS, (name, "")) for n in range(30) for name in "ab"]
    assert pages > 5
