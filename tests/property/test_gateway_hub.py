"""Whatever is subscribed, published, paused and resumed: right tenant, right channel, right order, once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.names import channel_matches
from gateway.subscription import patterns_of, refused
from tests.unit.gateway.test_hub import Remembering, Stage

TENANTS = st.sampled_from(["a", "b", "c"])
CHANNELS = st.sampled_from(["orders:1", "orders:2", "orders:1:x", "tools:1", "tools:a", "system:lag"])
PATTERNS = st.one_of(CHANNELS, st.sampled_from(["orders:*", "orders:1:*", "tools:*", "system:*"]))


@settings(max_examples=200, deadline=None)
@given(
    clients=st.lists(st.tuples(TENANTS, st.sets(PATTERNS, min_size=1, max_size=3)), min_size=1, max_size=6),
    published=st.lists(st.tuples(TENANTS, CHANNELS), max_size=30),
    pauses=st.lists(st.integers(1, 4), min_size=6, max_size=6),
    ticks=st.sets(st.integers(0, 30)),
)
def test_each_client_gets_exactly_its_tenants_messages_on_its_channels(
    clients: list[tuple[str, set[str]]], published: list[tuple[str, str]], pauses: list[int], ticks: set[int]
):
    stage = Stage()
    open_clients = [
        Remembering(stage.hub, tenant, *patterns, room=room)
        for (tenant, patterns), room in zip(clients, pauses, strict=False)
    ]
    for client in open_clients:
        stage.hub.join(client)
    for number, (tenant, channel) in enumerate(published):
        stage.publish(channel, tenant=tenant)
        if number in ticks:
            stage.tick()
    for _ in range(3):
        for client in open_clients:
            client.room = 10**9
            if client.paused_at_s is not None:
                stage.hub.resumed(client)
        stage.tick()
    for (tenant, patterns), client in zip(clients, open_clients, strict=True):
        # The platform's channels are served from its own tenant only, which published nothing here.
        expected = [
            b"[%d]" % offset
            for offset, (owner, channel) in enumerate(published)
            if owner == tenant and any(channel_matches(p, channel) for p in patterns if not p.startswith("system:"))
        ]
        assert client.text == b"".join(expected)


@given(channel=CHANNELS, pattern=PATTERNS)
def test_the_index_finds_a_pattern_exactly_when_it_matches(channel: str, pattern: str):
    assert (pattern in list(patterns_of(channel))) == channel_matches(pattern, channel)


@given(granted=st.lists(PATTERNS, max_size=3), asked=PATTERNS, channel=CHANNELS)
def test_a_pattern_that_is_granted_reaches_no_channel_beyond_the_grant(granted: list[str], asked: str, channel: str):
    if refused(granted, [asked]) is None and channel_matches(asked, channel):
        assert any(channel_matches(grant, channel) for grant in granted)
