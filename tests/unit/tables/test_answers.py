from __future__ import annotations

import pytest

from contracts.codec import decode
from contracts.errors import QueryError
from contracts.routing import subject_of
from runtime.settings import Settings
from tables.answers import number_text, subject_path, value_text
from tables.catalogue import catalogue
from tables.query import OTHERS, PAGE, RANGE
from tables.render_csv import field
from tables.render_html import Where
from tables.routing import Served
from tables.shares import line_names
from tables.views import address_of, with_key
from tests.support.checkout import ROOT
from tests.support.tables import Local, latency_kind


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.0, "0"),
        (12345.678, "12,346"),
        (123.456, "123.5"),
        (12.3456, "12.35"),
        (1.23456, "1.235"),
        (0.012345, "0.0123"),
        (1e-9, "1e-09"),
        (-2.5, "-2.500"),
        ({"timeout": 3, "http_500": 1200}, "http_500 1,200, timeout 3"),
        ({}, "-"),
        ("text", "text"),
    ],
)
def test_a_value_is_short_for_people(value: object, text: str):
    assert value_text(value) == text


def test_numbers_beyond_what_floats_hold_exactly_stay_short():
    assert number_text(1e300) == f"{1e300:,.0f}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("a=b", "a=b"),
        (-3, -3),
        (True, "true"),
        ({"b": 1, "a": 2}, '{"a": 2, "b": 1}'),
    ],
)
def test_a_field_of_csv_is_never_a_formula(value: object, text: object):
    assert field(value) == text


@pytest.mark.parametrize("key", [(), ("search",), ("a/b", "1 %"), ("search", ""), ("ü", "?&#")])
def test_a_key_survives_its_address(key: tuple[str, ...]):
    assert address_of(f"/tables/tool_latency/{subject_path(key)}") == ("tool_latency", key)


def test_a_path_and_a_filter_must_not_contradict_each_other():
    served = Served(latency_kind(), Local(latency_kind()), 0)
    assert with_key(served, ("a",), {"tool": "a", "version": "2"}) == {"tool": "a", "version": "2"}
    with pytest.raises(QueryError, match="the path says 'a'"):
        with_key(served, ("a",), {"tool": "b"})


def test_links_lead_back_from_any_depth_and_parts_that_a_path_cannot_hold_become_filters():
    where = Where("../../", ("search",), {"from": "-1h", "limit": "5", "tool": "x"})
    assert where.of_subject("tool_latency", ("tool", "version"), ("a/b", "")) == "../../tool_latency/a%2Fb/?from=-1h"
    assert (
        where.of_subject("tool_latency", ("tool", "version"), ("..", "1"))
        == "../../tool_latency/?tool=..&version=1&from=-1h"
    )
    assert where.of_subject("tool_latency", ("tool", "version"), ("a/../b", "1")).endswith(
        "?tool=a%2F..%2Fb&version=1&from=-1h"
    )


def test_no_part_or_column_of_any_table_is_called_as_something_else():
    for kind in catalogue(Settings()).values():
        assert not set(kind.parts) & {*RANGE, *PAGE, *OTHERS}
        assert len(set(line_names(kind))) == len(line_names(kind))


@pytest.mark.parametrize("event", ["tool_call", "tool_executed", "rag_retrieval", "audio_quality_report"])
def test_the_first_part_of_a_key_is_what_the_source_is_keyed_by(event: str):
    raw = (ROOT / "contracts" / "events" / event / "1.sample.json").read_bytes()
    decoded = decode(raw, mode="strict").event
    kinds = [kind for kind in catalogue(Settings()).values() if not kind.merged_when_read]
    names = [kind.samples([raw], "strict").names for kind in kinds]
    assert [found[0][1][0] for found in names if found] == [subject_of(decoded)]


def test_a_worker_gives_up_on_others_before_the_gateway_gives_up_on_it():
    assert Settings().worker.peer_timeout_s < Settings().gateway.table_timeout_s
