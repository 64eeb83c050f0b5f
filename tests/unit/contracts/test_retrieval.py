from __future__ import annotations

import pytest

from contracts import errors
from contracts.codec import decode
from contracts.names import Mode
from contracts.retrieval import RagRetrieval, RetrievalSample, decode_retrieval_samples
from tests.support.samples import MODES, refusal, value

EVENT = "rag_retrieval"


def sample(**changes: object) -> RetrievalSample:
    [taken] = decode_retrieval_samples([value(EVENT, **changes)], mode="strict").samples
    return taken


def test_a_sample_says_what_the_event_says():
    taken = sample()
    assert (taken.index, taken.latency_us, taken.results, taken.relevant_total) == ("menu", 38250, 5, 2)
    assert taken.scores == [0.92, 0.81, 0.77, 0.4, 0.12]
    assert taken.relevance == [0, 0, 1, 1, 0]
    assert not taken.failed


def test_a_retrieval_failed_only_when_its_status_says_so():
    assert sample(status="error", error_class="Timeout").failed
    assert sample(status="error", error_class="Timeout").error_class == "Timeout"
    assert not sample(status=...).failed


def test_scores_may_be_fewer_than_results_and_relevance_absent():
    taken = sample(results=900, scores=[1], relevance=..., relevant_total=...)
    assert (taken.scores, taken.relevance, taken.relevant_total) == ([1.0], None, None)


def test_fewer_relevant_documents_than_results_are_fine_while_no_more_were_found():
    assert sample(relevance=[0, 1, 0], relevant_total=1).relevant_total == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"results": -1}, "results"),
        ({"results": 10**10}, "results"),
        ({"results": 4}, "scores"),
        ({"results": 4, "scores": ...}, "relevance"),
        ({"relevant_total": 1}, "relevant_total"),
        ({"scores": [1e13]}, "scores[0]"),
        ({"scores": [float("inf")]}, "scores[0]"),
        ({"scores": [float("nan")]}, "scores[0]"),
        ({"results": 5000, "scores": [0.5] * 1001}, "scores"),
        ({"relevance": [-0.5]}, "relevance[0]"),
        ({"relevance": [2e6]}, "relevance[0]"),
        ({"latency_ms": -0.5}, "latency_ms"),
        ({"latency_ms": 1e10}, "latency_ms"),
    ],
)
def test_numbers_outside_their_limits_are_refused_by_the_codec_too(mode: Mode, changes: dict[str, object], field: str):
    error = refusal(EVENT, mode, **changes)
    assert (type(error), error.field) == (errors.OutOfRange, field), str(error)
    with pytest.raises(errors.OutOfRange) as caught:
        decode(value(EVENT, **changes), mode=mode)
    assert caught.value.field == field


def test_an_unknown_status_is_refused():
    assert refusal(EVENT, "compat", status="meh").field == "status"


def test_the_codec_reads_the_whole_event():
    event = decode(value(EVENT), mode="strict").event
    assert isinstance(event, RagRetrieval)
    assert (event.query_id, event.session_id) == ("q-31", "s-77")


def test_the_codec_refuses_a_time_before_1970():
    with pytest.raises(errors.OutOfRange, match=r"rag_retrieval\.ts must not be before 1970-01-01T00:00:00Z"):
        decode(value(EVENT, ts="1969-12-31T23:59:59Z"), mode="compat")


def test_the_entry_of_a_list_that_is_at_fault_is_named_and_shown():
    error = refusal(EVENT, "compat", scores=[0.5, 1e13])
    assert str(error) == "OutOfRange: rag_retrieval.scores[1] must be float <= 1000000000000.0 (got 10000000000000.0)"
