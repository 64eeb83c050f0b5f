from __future__ import annotations

import pytest

from contracts.errors import QueryError
from control.bodies import MoveBody, ReclaimBody, filter_of, parsed
from runtime.problem import Problem
from streams.dead_letters import LetterState
from streams.letter_filter import LetterFilter


def test_a_query_and_a_body_that_say_the_same_mean_the_same():
    query = {"id": ["3", "4"], "state": ["dead"], "source": ["orders"], "since": ["2026-01-01T00:00:00+00:00"]}
    since = '"since": "2026-01-01T00:00:00Z"'
    body = f'{{"why": "x", "which": {{"ids": [3, 4], "state": ["dead"], "source": "orders", {since}}}}}'.encode()
    of_query, of_body = filter_of(query), parsed(MoveBody, body).meant()
    assert of_query == of_body
    assert of_query.states == (LetterState.DEAD,)


def test_everything_is_meant_only_when_it_is_said():
    with pytest.raises(QueryError, match="which"):
        parsed(MoveBody, b'{"why": "x"}').meant()
    assert parsed(MoveBody, b'{"why": "x", "all": true}').meant() == LetterFilter()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"why": 1}', b'{"why": "x", "limt": 1}', b'{"why": "x", "which": {"tenat": "t"}}', b"\xff"]
)
def test_a_body_that_is_not_understood_is_refused(body: bytes):
    with pytest.raises(Problem) as problem:
        parsed(MoveBody, body)
    assert problem.value.status == 400


def test_hours_have_limits():
    with pytest.raises(QueryError, match="hours"):
        parsed(ReclaimBody, b'{"why": "x", "hours": 0}')


@pytest.mark.parametrize(
    ("name", "values"), [("id", ["x"]), ("id", ["-1"]), ("until", ["soon"]), ("requeue", ["1", "2"]), ("who", ["x"])]
)
def test_a_query_names_what_is_wrong(name: str, values: list[str]):
    with pytest.raises(QueryError, match=name):
        filter_of({name: values})
