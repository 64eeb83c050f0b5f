from __future__ import annotations

import json

import pytest

from contracts.errors import BadText, OutOfRange
from streams.outbox import problem_of_column, with_traceparent

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_trace_goes_into_meta_beside_what_is_there():
    text = with_traceparent('{"n": 12345678901234567890, "meta": {"reason": "ü"}}', TRACE)
    assert json.loads(text) == {"n": 12345678901234567890, "meta": {"reason": "ü", "traceparent": TRACE}}


@pytest.mark.parametrize("text", ['{"event": "x"}', '{"event": "x", "meta": null}'])
def test_a_missing_meta_is_made(text: str):
    assert json.loads(with_traceparent(text, TRACE))["meta"] == {"traceparent": TRACE}


@pytest.mark.parametrize(
    ("field", "text", "error"),
    [("aggregate_id", "", OutOfRange), ("aggregate_id", "x" * 256, OutOfRange), ("event_type", "a\0b", BadText)],
)
def test_what_a_column_cannot_take_is_refused_before_it_is_sent(field: str, text: str, error: type[Exception]):
    assert isinstance(problem_of_column("order_status", field, text), error)


def test_what_a_column_can_take_is_no_problem():
    assert problem_of_column("order_status", "aggregate_id", "x" * 255) is None
