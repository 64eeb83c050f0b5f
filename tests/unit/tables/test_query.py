from __future__ import annotations

import pytest

from contracts.errors import QueryError
from tables.query import MAX_LIMIT, duration_ms, duration_text, moment_ms, rfc3339
from tests.support.tables import T0, ask, between, latency_kind

KIND = latency_kind()
TIMELESS = latency_kind(size_ms=0)


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("2d", 172_800_000)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, ms: int):
    assert duration_ms("size", text) == ms
    assert duration_text(ms) == text


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", T0),
        ("-15m", T0 - 900_000),
        ("now-15m", T0 - 900_000),
        (rfc3339(T0), T0),
        ("2023-11-15T01:00:00+01:00", T0),
        ("2023-11-15T01:00:00 01:00", T0),  # the plus of an address that nobody encoded
        ("-99999999d", 0),
    ],
)
def test_a_time_is_rfc_3339_or_relative(text: str, ms: int):
    assert moment_ms("from", text, T0) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2023-11-15", "2023-11-15T01:00:00", "15m", "-15", "1969-12-31T00:00:00Z"]
)
def test_other_times_are_refused_by_name(text: str):
    with pytest.raises(QueryError, match=r"^from: "):
        moment_ms("from", text, T0)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"size": "15s"}, "size: must be a multiple of tool_latency's base window, 10s, up to 31d (got 15s)"),
        ({"size": "1s"}, "size: must be a multiple"),
        ({"size": "32d"}, "size: must be a multiple"),
        (
            {"size": "1m", "step": "2m"},
            "step: must be a multiple of tool_latency's base window, 10s, up to 1m (got 2m)",
        ),
        ({"step": "0s"}, "step: must be a multiple"),
        ({"limit": "0"}, f"limit: must be a number of rows from 1 to {MAX_LIMIT} (got 0)"),
        ({"limit": "10001"}, "limit: "),
        ({"limit": "1e3"}, "limit: "),
        ({"from": "now", "to": "-1m"}, "from: must be before to"),
        ({"from": "-30d"}, "from: may reach over 100000 base windows of 10s at most (got 259200)"),
        ({"after": "x"}, "after: must be the `next` of an answer to the same question (got x)"),
        ({"after": "+/+/"}, "after: "),
        ({"form": "csv"}, "form: tool_latency takes tool, version, from, to, size, step, limit, after"),
    ],
)
def test_a_limit_that_is_broken_is_named_with_the_value(params: dict[str, str], told: str):
    with pytest.raises(QueryError) as refused:
        ask(KIND, params)
    assert str(refused.value).startswith(told)


def test_a_table_without_windows_takes_no_time_range():
    with pytest.raises(QueryError, match=r"^size: "):
        ask(TIMELESS, size="10s")
    assert list(ask(TIMELESS).starts()) == [0]


def test_without_a_range_it_is_the_last_quarter_of_an_hour():
    query = ask(KIND)
    assert (query.from_ms, query.to_ms) == (T0 - 900_000, T0)
    assert (query.size_ms, query.step_ms) == (10_000, 10_000)


def test_of_long_windows_ten_are_shown():
    query = ask(KIND, size="1h")
    assert len(query.starts()) == 10


def test_a_window_counts_when_it_overlaps_the_range():
    query = ask(KIND, between(T0 + 15_000, T0 + 30_001))
    assert list(query.starts()) == [T0 + 10_000, T0 + 20_000, T0 + 30_000]


def test_sliding_windows_end_with_the_range():
    query = ask(KIND, between(T0, T0 + 30_000), size="1m", step="10s")
    assert [start - T0 for start in query.starts()] == [-50_000, -40_000, -30_000]


def test_a_cursor_is_of_its_own_question_only():
    query = ask(KIND, size="1m")
    cursor = query.cursor((T0, ("search", "1")))
    assert ask(KIND, size="1m", after=cursor).after == (T0, ("search", "1"))
    for other in ({"size": "2m"}, {"size": "1m", "step": "10s"}, {"size": "1m", "tool": "search"}):
        with pytest.raises(QueryError, match=r"^after: "):
            ask(KIND, other, after=cursor)


@pytest.mark.parametrize("start_ms", [T0 + 1, T0 + 10_000, -60_000])
def test_a_cursor_that_names_no_window_of_the_question_is_refused(start_ms: int):
    cursor = ask(KIND, size="1m").cursor((start_ms, ("search", "1")))
    with pytest.raises(QueryError, match=r"^after: "):
        ask(KIND, size="1m", after=cursor)


def test_channels_and_filters_decide_which_subjects_are_seen():
    assert ask(KIND, channels=("tools:search",)).covers(("search", "1"))
    assert not ask(KIND, channels=("tools:search", "orders:*")).covers(("price", "1"))
    assert not ask(KIND, version="2").covers(("search", "1"))
    assert ask(KIND, version="2").covers(("search", "2"))


def test_the_first_part_routes_unless_rows_are_shared_by_partitions():
    assert ask(KIND, tool="search").first_part == "search"
    assert ask(KIND, version="1").first_part is None
    assert ask(latency_kind(merged_when_read=True), tool="search").first_part is None


def test_the_parameters_of_a_question_ask_it_again():
    query = ask(KIND, {"from": "-1h"}, tool="a b&c", size="1m", step="10s", limit="7")
    assert ask(KIND, query.params(), now_ms=T0 + 99_999) == query
