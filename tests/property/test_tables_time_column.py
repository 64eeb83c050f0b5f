"""A column of times is read as its times are one by one."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contracts.times import epoch_ms
from tables.time_column import epoch_ms_of

FORM = "%Y-%m-%dT%H:%M:%S.{:03d}Z"
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001  hypothesis wants naive bounds
    lambda moment: moment.strftime(FORM).format(moment.microsecond // 1000).zfill(24)
)
near_misses = st.sampled_from(
    [
        "2026-02-29T00:00:00.000Z",
        "2026-13-01T00:00:00.000Z",
        "2026-01-01T24:00:00.000Z",
        "2026-01-01T23:59:60.000Z",
        "0000-01-01T00:00:00.000Z",
        "1969-12-31T23:59:59.999Z",
        "2026-01-01 00:00:00.000Z",
        "2026-01-01T00:00:00.000z",
        "2026-01-01T00:00:00,000Z",
        "2026-01-01T00:00:00.00٣Z",
        "2026-01-01T00:00:00Z",
        "NaT",
        "now",
        "",
    ]
)


def one_by_one(text: str) -> int | None:
    try:
        return epoch_ms(msgspec.convert(text, datetime))
    except ValueError:
        return None


@given(st.lists(moments, min_size=16, max_size=40))
def test_a_column_of_the_usual_form_is_read_exactly(texts: list[str]):
    found = epoch_ms_of(texts)
    assert found is not None
    assert found.tolist() == [one_by_one(text) for text in texts]


@given(st.lists(moments | near_misses | st.text(max_size=26), min_size=16, max_size=40))
def test_whatever_a_column_answers_is_what_its_times_say_alone(texts: list[str]):
    found = epoch_ms_of(texts)
    assert found is None or found.tolist() == [one_by_one(text) for text in texts]


def test_few_times_and_other_forms_are_left_to_the_caller():
    usual = datetime(2026, 1, 1, tzinfo=UTC).strftime(FORM).format(7)
    assert epoch_ms_of([usual] * 16) is not None
    assert epoch_ms_of([usual] * 15) is None
    assert epoch_ms_of([usual] * 16 + ["2026-01-01T00:00:00Z"]) is None
