"""Headers of a requeued letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadEntry
from contracts.names import Consumer, Topic, kafka_topic, retry_topic
from contracts.requeue import Origin, Requeued, from_headers, own_headers, to_headers

NUMBERS = st.integers(0, 2**63 - 1)
ORIGINS = st.builds(Origin, st.just("shop.orders"), st.sampled_from(["", "1a2b3c4d"]), NUMBERS, NUMBERS)
REQUEUED = st.builds(Requeued, ORIGINS, NUMBERS, NUMBERS)
OWN = st.lists(st.tuples(st.sampled_from(["ce_id", "tenant", "h"]), st.binary(max_size=4)), max_size=3)


@given(REQUEUED, OWN)
def test_what_is_written_is_read_and_the_records_own_headers_stay_as_they_were(
    requeued: Requeued, own: list[tuple[str, bytes]]
):
    headers = [*own, *to_headers(requeued)]
    assert from_headers(headers) == requeued
    assert own_headers(headers) == tuple(own)
    assert from_headers(own) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("hr_origin", b"orders|1|2"), ("hr_origin", b"\xff"), ("hr_seq", b"-1"), ("hr_seq", b"x"), ("hr_letter", b"")],
)
def test_headers_that_cannot_be_read_are_refused_and_named(name: str, value: bytes):
    good = dict(to_headers(Requeued(Origin("shop.orders", "", 0, 1), 2, 3)))
    with pytest.raises(BadEntry, match=name):
        from_headers({**good, name: value}.items())


def test_each_consumer_has_a_topic_of_its_own_that_is_no_other_topic():
    names = {retry_topic("shop", consumer) for consumer in Consumer}
    assert len(names) == len(Consumer)
    assert names.isdisjoint(kafka_topic("shop", topic) for topic in Topic)
    assert retry_topic("shop", Consumer.TOOL_CALLS) == "shop.retry.tool-calls"
