"""A column of times is read as its times are one by one."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.times import epoch_ms
from tables.time_column import epoch_ms_of

# How many decimals, and how UTC is written.
ENDS = [(decimals, zone) for decimals in (0, 3, 6) for zone in ("Z", "+00:00")]
End = tuple[int, str]
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001  hypothesis wants naive bounds


def written(moment: datetime, end: End) -> str:
    """Any of the forms that a column knows; cut, not rounded."""
    decimals, zone = end
    fraction = f".{moment.microsecond:06d}"[: decimals + 1] if decimals else ""
    return moment.strftime("%Y-%m-%dT%H:%M:%S").zfill(19) + fraction + zone


usual = st.builds(written, moments, st.sampled_from(ENDS))
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


@given(st.lists(moments, min_size=16, max_size=40), st.sampled_from(ENDS))
def test_a_column_of_a_usual_form_is_read_exactly(of: list[datetime], end: End):
    texts = [written(moment, end) for moment in of]
    found = epoch_ms_of(texts)
    assert found is not None
    assert found.tolist() == [one_by_one(text) for text in texts]


@given(st.lists(usual | near_misses | st.text(max_size=33), min_size=16, max_size=40))
def test_whatever_a_column_answers_is_what_its_times_say_alone(texts: list[str]):
    found = epoch_ms_of(texts)
    assert found is None or found.tolist() == [one_by_one(text) for text in texts]


@given(st.lists(moments, min_size=16, max_size=20), st.sampled_from(ENDS), st.data())
def test_one_character_that_is_another_is_judged_as_it_is_alone(of: list[datetime], end: End, data: st.DataObject):
    texts = [written(moment, end) for moment in of]
    place = data.draw(st.integers(0, len(texts[0]) - 1))
    other = data.draw(st.sampled_from("0123456789:+-TZz ,\n"))
    texts[5] = texts[5][:place] + other + texts[5][place + 1 :]
    found = epoch_ms_of(texts)
    assert found is None or found.tolist() == [one_by_one(text) for text in texts]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("date", ["2026-02-29", "2026-13-01", "2026-00-01", "2026-01-00", "0000-01-01", "1969-12-31"])
def test_a_date_that_is_none_or_too_old_is_left_to_the_caller(date: str, end: End):
    good = written(datetime(2026, 1, 1), end)  # noqa: DTZ001  as above
    assert epoch_ms_of([good] * 16 + [date + good[10:]]) is None


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("time", ["24:00:00", "10:60:00", "10:00:60", "23:59:60", "2 :00:00"])
def test_a_time_of_day_that_is_none_is_left_to_the_caller(time: str, end: End):
    good = written(datetime(2026, 1, 1), end)  # noqa: DTZ001  as above
    assert epoch_ms_of([good] * 16 + [good[:11] + time + good[19:]]) is None


def test_few_times_and_mixed_forms_are_left_to_the_caller():
    plain, other = "2026-01-01T00:00:00.007Z", "2026-01-01T00:00:00Z"
    assert epoch_ms_of([plain] * 16) is not None
    assert epoch_ms_of([plain] * 15) is None
    assert epoch_ms_of([]) is None
    assert epoch_ms_of([plain] * 16 + [other]) is None
    assert epoch_ms_of([other] + [plain] * 16) is None
    assert epoch_ms_of(["2026-01-01T00:00:00.000+01:00"] * 16) is None
