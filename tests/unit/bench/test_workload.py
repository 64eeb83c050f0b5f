from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
import numpy as np

from bench.recount import P95, RowAnswer, check, recount
from bench.workload import BLOCK, CLOSING_TENANT, PARTITIONS, WINDOW_MS, Shape, Workload, start_for
from contracts.codec import decode
from contracts.tools import ToolExecuted

START_MS = 1_795_000_000_000
SMALL = Workload(5_000, START_MS, Shape(tenants=3, tools=4, events_per_s=200))


def _values(workload: Workload) -> list[bytes]:
    return [value for block in workload.blocks() for value in workload.values(block)]


def test_the_same_stream_comes_out_every_time_and_a_shorter_one_is_its_beginning():
    longer = Workload(BLOCK + 700, START_MS)
    shorter = Workload(BLOCK - 300, START_MS)
    values = _values(longer)
    assert len(values) == longer.events
    assert values == _values(Workload(BLOCK + 700, START_MS))
    assert values[: shorter.events] == _values(shorter)


def test_every_event_keeps_the_contract_to_the_letter_and_says_its_time_twice():
    for value in _values(SMALL)[:500]:
        event = decode(value, mode="strict").event
        assert isinstance(event, ToolExecuted)
        assert round(event.ts.timestamp() * 1000) == msgspec.json.decode(value)["ts_ms"]


def test_events_have_about_the_size_errors_and_lateness_that_the_page_says():
    block = next(Workload(BLOCK, START_MS).blocks())
    values = Workload(BLOCK, START_MS).values(block)
    assert 205 <= sum(map(len, values)) / len(values) <= 220
    assert 0.025 <= block.error.mean() <= 0.035
    behind_ms = np.maximum.accumulate(block.ts_ms) - block.ts_ms
    assert 0.015 <= (behind_ms > 0).mean() <= 0.025
    assert behind_ms.max() <= 2_000


def test_a_row_gets_a_hundred_events_on_average():
    counts = [answer.events for answer in recount(Workload(200_000, START_MS)).values()]
    assert 95 <= sum(counts) / len(counts) <= 105


def test_the_closing_events_are_one_for_each_partition_a_minute_after_the_last():
    closing = SMALL.closing()
    assert [partition for partition, *_rest in closing] == list(range(PARTITIONS))
    assert {ts_ms for *_rest, ts_ms in closing} == {START_MS + SMALL.span_ms + 60_000}
    assert all(decode(value, mode="strict").event.tenant_id == CLOSING_TENANT for _p, _k, value, _t in closing)


def test_a_stream_that_ends_now_has_no_event_in_the_future_and_starts_on_a_border():
    now_ms = START_MS + 4_321
    start_ms = start_for(5_000, SMALL.shape, now_ms)
    assert start_ms % WINDOW_MS == 0
    closing = Workload(5_000, start_ms, SMALL.shape).closing()
    assert now_ms - WINDOW_MS - WINDOW_MS < closing[0][3] <= now_ms


def test_the_recount_agrees_with_counting_the_payloads_one_by_one():
    latencies: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    errors: Counter[tuple[str, str, int]] = Counter()
    for value in _values(SMALL):
        event = msgspec.json.decode(value)
        key = (event["tenant_id"], event["tool"], event["ts_ms"] // WINDOW_MS * WINDOW_MS)
        latencies[key].append(event["latency_ms"])
        errors[key] += event["status"] == "error"
    plain = {
        key: RowAnswer(len(held), errors[key], sorted(held)[int(P95 * (len(held) - 1))])
        for key, held in latencies.items()
    }
    assert recount(SMALL) == plain


def test_the_check_finds_missing_wrong_repeated_and_invented_rows_but_no_closing_ones():
    right = recount(SMALL)
    rows = list(right.items())
    key, answer = rows[0]
    assert answer.p95_ms is not None
    assert check(right, [*rows, ((CLOSING_TENANT, "closing_1", 0), RowAnswer(1, 0, 1.0))]).ok
    assert check(right, [(place, RowAnswer(held.events)) for place, held in rows]).ok
    assert not check(right, rows[1:]).ok
    assert not check(right, [*rows, rows[0]]).ok
    assert not check(right, [*rows, (("nobody", "tool_00", 0), answer)]).ok
    assert not check(right, [(key, answer._replace(events=answer.events + 1)), *rows[1:]]).ok
    assert not check(right, [(key, answer._replace(errors=(answer.errors or 0) + 1)), *rows[1:]]).ok
    assert check(right, [(key, answer._replace(p95_ms=answer.p95_ms * 1.009)), *rows[1:]]).ok
    assert not check(right, [(key, answer._replace(p95_ms=answer.p95_ms * 1.011)), *rows[1:]]).ok
