from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from contracts.errors import QueryError
from streams.dead_letters import LetterState
from streams.letter_filter import MAX_ID, MAX_IDS, LetterFilter, state_named


def test_nothing_given_means_everything():
    assert LetterFilter().condition() == ("true", [])
    assert not LetterFilter(states=(LetterState.DEAD,)).names_letters
    assert LetterFilter(ids=(1,)).names_letters


def test_values_are_parameters_in_order_and_never_part_of_the_text():
    condition, values = LetterFilter(source="'; DROP", reason="BadJson", ids=(3, 4)).condition()
    assert condition == "letter.id = ANY($1::bigint[]) AND letter.source = $2 AND letter.error_class = $3"
    assert values == [[3, 4], "'; DROP", "BadJson"]


def test_the_record_of_a_filter_says_what_was_given():
    given = LetterFilter(states=(LetterState.DEAD,), since=datetime(2026, 1, 1, tzinfo=UTC), tenant="t1")
    assert given.as_json() == {"states": ["dead"], "since": "2026-01-01T00:00:00+00:00", "tenant": "t1"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ids", tuple(range(1, MAX_IDS + 2))),
        ("ids", (0,)),
        ("ids", (MAX_ID + 1,)),
        ("requeue_id", -1),
        ("tenant", "a\0b"),
        ("reason", "\ud800"),
        ("source", "x" * 257),
        ("since", datetime(2026, 1, 1)),  # noqa: DTZ001 - that is the point
        ("since", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
        ("until", datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14)))),
    ],
)
def test_what_the_database_could_not_compare_is_refused_with_the_fields_name(field: str, value: object):
    with pytest.raises(QueryError, match=field):
        LetterFilter(**{field: value})  # type: ignore[arg-type]


def test_an_unknown_state_is_told_which_there_are():
    assert state_named("dead") is LetterState.DEAD
    with pytest.raises(QueryError, match="dead, requeued, recovered, discarded"):
        state_named("resolved")
