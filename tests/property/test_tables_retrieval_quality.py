"""Rows of retrieval quality: the same bits whatever the order and the batches, and right."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.settings import Settings
from tables import ranking
from tables.retrieval_quality import COLUMNS, MEASURES, RetrievalFold, Retrievals, Search, kind
from tables.sketches import RELATIVE_ERROR

FOLD = RetrievalFold()
KIND = kind(Settings())
PLAIN: dict[str, Any] = {
    "event": "rag_retrieval",
    "version": "1.0",
    "tenant_id": "t",
    "index": "docs",
    "ts": "2026-01-01T00:00:00Z",
    "latency_ms": 12.5,
    "results": 5,
}


@st.composite
def retrieval(draw: st.DrawFn) -> dict[str, Any]:
    results = draw(st.integers(0, 12))
    event = PLAIN | {"results": results, "latency_ms": draw(st.floats(min_value=0, max_value=1e9))}
    if draw(st.booleans()):
        event["scores"] = draw(st.lists(st.floats(min_value=-1e12, max_value=1e12), max_size=results))
    if draw(st.booleans()):
        gains = draw(st.lists(st.one_of(st.just(0), st.floats(min_value=1e-3, max_value=1e6)), max_size=results))
        event["relevance"] = gains
        if draw(st.booleans()):
            event["relevant_total"] = sum(gain > 0 for gain in gains) + draw(st.integers(0, 5))
    if draw(st.integers(0, 4)) == 0:
        event["status"] = "error"
    return event


retrievals = st.lists(retrieval(), max_size=10)


def values(events: list[dict[str, Any]]) -> list[Search]:
    samples = KIND.samples([msgspec.json.encode(event) for event in events], "strict")
    assert not samples.bad
    assert {subject for _, subject in samples.names} <= {("docs",)}
    return list(samples.values)


def folded(batches: list[list[Search]]) -> Retrievals:
    state = FOLD.empty()
    for batch in batches:
        FOLD.add(state, batch)
    return state


def summary_of(*events: dict[str, Any]) -> dict[str, Any]:
    return FOLD.summarise(folded([values([PLAIN | event for event in events])]))


def bits(state: Retrievals) -> bytes:
    return msgspec.msgpack.encode(FOLD.pack(state))


def cut(items: list[Any], data: st.DataObject) -> list[list[Any]]:
    places = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=4)))
    return [items[start:stop] for start, stop in zip([0, *places], [*places, len(items)], strict=True)]


@given(retrievals, st.data())
@settings(max_examples=100)
def test_order_and_batches_change_no_bit(events: list[dict[str, Any]], data: st.DataObject):
    searches = values(events)
    shuffled = list(data.draw(st.permutations(searches)))
    assert bits(folded(cut(shuffled, data))) == bits(folded([searches]))


@given(retrievals, st.data())
@settings(max_examples=100)
def test_any_merge_of_any_parts_changes_no_bit(events: list[dict[str, Any]], data: st.DataObject):
    searches = values(events)
    parts = [folded([part]) for part in cut(list(data.draw(st.permutations(searches))), data)]
    while len(parts) > 1:
        left = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        right = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        before = bits(left), bits(right)
        parts.append(FOLD.merge(left, right))
        assert (bits(left), bits(right)) == before
    assert bits(parts[0]) == bits(folded([searches]))


@given(retrievals)
@settings(max_examples=50)
def test_a_row_survives_its_packing_and_that_of_other_releases(events: list[dict[str, Any]]):
    state = folded([values(events)])
    fields = msgspec.msgpack.decode(bits(state))
    assert FOLD.unpack(fields) == state
    assert FOLD.unpack([*fields, ["a newer release's"], 7]) == state
    for known in range(len(fields)):
        older = FOLD.unpack(fields[:known])
        assert msgspec.msgpack.decode(bits(older))[:known] == fields[:known]


@given(retrievals)
def test_a_summary_has_just_the_columns_all_finite(events: list[dict[str, Any]]):
    summary = FOLD.summarise(folded([values(events)]))
    assert set(summary) == {column.name for column in COLUMNS}
    assert all(value is None or math.isfinite(value) for value in summary.values())  # type: ignore[arg-type]


@given(retrievals)
def test_counts_and_means_equal_a_recount(events: list[dict[str, Any]]):
    summary = FOLD.summarise(folded([values(events)]))
    answered = [event for event in events if event.get("status") != "error"]
    judged = [event for event in answered if "relevance" in event and event.get("relevant_total") != 0]
    counted = [event for event in judged if "relevant_total" in event]
    assert summary["count"] == len(events)
    assert summary["errors"] == len(events) - len(answered)
    assert summary["empty"] == sum(event["results"] == 0 for event in answered)
    assert summary["judged"] == len(judged)
    expected = {
        "mrr": [ranking.reciprocal_rank(event["relevance"]) for event in judged],
        "context_precision": [ranking.context_precision(event["relevance"]) for event in judged],
        "ndcg_at_10": [ranking.ndcg(event["relevance"], 10, event.get("relevant_total")) for event in judged],
        "recall_at_5": [ranking.recall(event["relevance"], 5, event["relevant_total"]) for event in counted],
    }
    for name, shares in expected.items():
        mean = math.fsum(shares) / len(shares) if shares else None
        assert summary[name] == (None if mean is None else pytest.approx(mean, rel=1e-5, abs=1e-8))


@given(st.lists(st.floats(min_value=0.001, max_value=3_600_000), min_size=1, max_size=50))
def test_latency_percentiles_are_within_one_percent(latencies: list[float]):
    summary = summary_of(*({"latency_ms": latency} for latency in latencies))
    for name, q in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        exact = sorted(latencies)[math.floor(q * (len(latencies) - 1))]
        assert summary[name] == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-4, abs=0.0011)
    assert summary["max_ms"] == pytest.approx(max(latencies), abs=0.0006)


def test_the_third_and_fourth_of_five_have_a_context_precision_of_five_twelfths():
    summary = summary_of({"relevance": [0, 0, 1, 1, 0], "relevant_total": 4})
    assert summary["context_precision"] == pytest.approx(0.4167, abs=5e-5)
    assert summary["mrr"] == pytest.approx(1 / 3, abs=1e-6)
    assert summary["recall_at_5"] == 0.5


def test_a_search_with_nothing_to_find_is_not_judged():
    summary = summary_of({"relevance": [0, 0], "relevant_total": 0}, {"results": 0})
    assert summary["judged"] == 0
    assert [summary[name] for name in MEASURES] == [None] * len(MEASURES)
    assert (summary["empty"], summary["empty_pct"]) == (1, 50.0)


def test_recall_is_a_mean_over_those_whose_total_is_known():
    summary = summary_of({"relevance": [1]}, {"relevance": [1], "relevant_total": 2})
    assert (summary["judged"], summary["mrr"], summary["recall_at_10"]) == (2, 1.0, 0.5)


def test_a_failed_search_counts_by_its_latency_alone():
    summary = summary_of({"status": "error", "results": 0, "latency_ms": 900.0}, {"results": 4})
    assert (summary["count"], summary["errors"], summary["empty"], summary["results_mean"]) == (2, 1, 0, 4.0)
    assert summary["max_ms"] == 900.0
    assert summary_of({"status": "error"})["empty_pct"] is None


def test_scores_of_either_sign_keep_their_order():
    summary = summary_of({"scores": [0.9, 0.1, -0.8]}, {"scores": [0.7]})
    assert summary["score_p10"] == pytest.approx(-0.8, rel=0.01)
    assert summary["score_p90"] == pytest.approx(0.7, rel=0.01)
    assert summary["first_score_p50"] == pytest.approx(0.7, rel=0.01)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["scores", "relevance"])
def test_what_is_not_a_number_never_enters(field: str, number: str):
    text = msgspec.json.encode(PLAIN).decode()
    samples = KIND.samples([f'{text[:-1]},"{field}":[{number}]}}'.encode()], "compat")
    assert [index for index, _ in samples.bad] == [0]
    assert not samples.values


def test_a_thousand_rows_of_the_largest_numbers_still_fit_a_row():
    most = {"latency_ms": 1e9, "results": 1_000_000_000}
    state = folded([values([PLAIN | most]) * 1000])
    for _ in range(30):
        state = FOLD.merge(state, state)
    assert FOLD.unpack(msgspec.msgpack.decode(bits(state))) == state


def test_measures_are_only_ever_appended():
    """Rows hold them by place: this list may grow at its end only."""
    assert MEASURES == ("mrr", "context_precision", "ndcg_at_5", "ndcg_at_10", "recall_at_5", "recall_at_10")
