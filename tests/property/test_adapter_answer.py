"""What answers mean, for all statuses and headers: one event has one fate, and breaker, retry and fate agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.adapter_answer import MOST_RETRY_AFTER_S, classify, judged, outcome_of, retry_after_s
from agents.adapter_request import header_value
from agents.effect import Dead, RetryLater
from contracts.call_errors import BreakerOpen, CallTimeout
from contracts.endpoint_errors import AnswerBroken, EndpointError, EndpointUnreachable
from reliability.fault import Health

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STATUSES = st.just(101) | st.integers(min_value=200, max_value=999)
HEADERS = st.dictionaries(st.sampled_from(["Retry-After", "Date", "Location"]), st.text(max_size=40))


@given(STATUSES, HEADERS, st.binary(max_size=200))
def test_every_answer_means_one_thing_and_only_2xx_is_done(status: int, headers: dict[str, str], body: bytes):
    error = judged("POST x", status, headers, body, NOW)
    assert (error is None) == (200 <= status < 300)
    if error is None:
        return
    assert error.status == status
    assert str(error).isprintable()
    outcome, fault = outcome_of(error, idempotent=True), classify(error)
    assert isinstance(outcome, Dead | RetryLater)
    if isinstance(outcome, Dead):
        assert (fault.health, fault.retry) == (Health.WELL, False)
    else:
        assert outcome.spends, "an answer is a try"
        assert outcome.delay_s is None or 0 <= outcome.delay_s <= MOST_RETRY_AFTER_S


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_of_a_server_breaks_or_exceeds_the_wait(text: str, date: str):
    found = retry_after_s({"Retry-After": text, "Date": date}, NOW)
    assert found is None or 0 <= found <= MOST_RETRY_AFTER_S


@given(st.integers(min_value=-100, max_value=3000), st.integers(min_value=-(10**7), max_value=10**7))
def test_a_date_is_measured_by_the_clock_of_who_gave_it(wait_s: int, skew_s: int):
    theirs = NOW + timedelta(seconds=skew_s)
    headers = {"Date": format_datetime(theirs), "Retry-After": format_datetime(theirs + timedelta(seconds=wait_s))}
    assert retry_after_s(headers, NOW) == max(0, wait_s)
    assert retry_after_s({"Retry-After": str(max(0, wait_s))}, NOW) == max(0, wait_s)


@pytest.mark.parametrize("idempotent", [True, False])
def test_what_was_never_sent_costs_nothing_and_what_may_have_been_is_repeated_only_where_harmless(*, idempotent: bool):
    never: list[EndpointError | BreakerOpen] = [EndpointUnreachable("e", "gone"), BreakerOpen("adapter", "open")]
    for error in never:
        outcome = outcome_of(error, idempotent=idempotent)
        assert isinstance(outcome, RetryLater)
        assert not outcome.spends
    maybe: list[EndpointError | CallTimeout] = [AnswerBroken("e", "reset"), CallTimeout("adapter", 3)]
    for unknown in maybe:
        outcome = outcome_of(unknown, idempotent=idempotent)
        assert isinstance(outcome, RetryLater if idempotent else Dead)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_value_ends_a_header_line_and_none_is_lost(text: str):
    value = header_value(text)
    assert all(0x21 <= ord(char) < 0x7F for char in value)
    assert unquote(value) == text
