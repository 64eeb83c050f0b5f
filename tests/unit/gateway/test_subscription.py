from __future__ import annotations

import pytest

from contracts.names import SYSTEM_TENANT, channel_matches
from gateway.subscription import Key, parse, patterns_of, refused, subscribe


def test_patterns_of_a_channel_are_those_that_match_it():
    assert list(patterns_of("a:b:c")) == ["a:b:c", "a:*", "a:b:*"]
    assert all(channel_matches(pattern, "a:b:c") for pattern in patterns_of("a:b:c"))


def test_a_list_of_channels_is_read_once_each_in_order():
    assert parse("orders:*,tools:x,orders:*") == ("orders:*", "tools:x")


@pytest.mark.parametrize("text", ["", ",", "a b", "a:b*", "*", "a:*:b", "a\n", ",".join(f"c:{n}" for n in range(65))])
def test_what_is_no_list_of_channels_is_refused(text: str):
    with pytest.raises(ValueError, match="channels"):
        parse(text)


@pytest.mark.parametrize(
    ("granted", "asked", "first_refused"),
    [
        (["orders:*"], ["orders:1", "orders:*", "orders:eu:*"], None),
        (["orders:1"], ["orders:1", "orders:*"], "orders:*"),
        (["orders:*"], ["tools:x"], "tools:x"),
        (["*"], ["orders:1"], "orders:1"),
        (["orders:*"], ["system:lag"], "system:lag"),
        (["system:lag"], ["system:lag", "system:*"], "system:*"),
        ([], ["orders:1"], "orders:1"),
    ],
)
def test_a_grant_covers_what_it_names_whole(granted: list[str], asked: list[str], first_refused: str | None):
    assert refused(granted, asked) == first_refused


def test_the_platforms_channels_belong_to_the_platforms_tenant():
    wanted = subscribe("acme", ["orders:*", "system:lag"])
    assert wanted.keys == {Key("acme", "orders:*"), Key(SYSTEM_TENANT, "system:lag")}
    assert not wanted.wants("system:lag")
    assert wanted.wants_system("system:lag")
    assert not wanted.wants_system("orders:1")
