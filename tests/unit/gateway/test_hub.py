"""The hub with clients that only remember what they were given."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.hub import Hub
from gateway.latest import Latest
from gateway.observed import GatewayMetrics
from gateway.ring import Entry, Limits, Ring
from gateway.subscription import Subscription, subscribe
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from tests.support.aio import run


class Remembering:
    """A client whose transport is full after `room` writes."""

    def __init__(self, hub: Hub, tenant: str, *patterns: str, cursor: int = 0, room: int = 10**9) -> None:
        self.subscription: Subscription = subscribe(tenant, patterns)
        self.partition = 0
        self.cursor = cursor
        self.latest_number = 0
        self.paused_at_s: float | None = None
        self.text = b""
        self.room = room
        self._hub = hub

    def write(self, data: bytes) -> None:
        self.text += data
        self.room -= 1
        if self.room == 0:
            self._hub.paused(self)

    def close(self, last: bytes) -> None:
        self.write(last)

    def abort(self) -> None:
        self._hub.leave(self)


class Stage:
    """A hub with one partition, and a way to publish to it."""

    def __init__(self, messages: int = 1000) -> None:
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.latest = Latest(keys=10, age_s=60)
        self.hub = Hub(self.latest, clock, GatewayMetrics(Metrics()))
        self.ring = Ring(Limits(10_000_000, messages, 60.0), 0)
        self.hub.follow(0, self.ring)

    def publish(self, *channels: str, tenant: str = "a") -> None:
        for channel in channels:
            entry = Entry(self.ring.end, tenant, channel, b"[%d]" % self.ring.end, 0.0)
            self.ring.append(entry)
            self.hub.publish(entry)

    def value(self, text: bytes, tenant: str = "a") -> None:
        self.latest.put(tenant, "k", "tools:x", text, 0.0)
        self.hub.publish_value(tenant, "k", "tools:x", text)

    def tick(self) -> None:
        run(self.hub.tick())


def test_exact_channels_and_wildcards_get_a_message_once():
    stage = Stage()
    clients = [Remembering(stage.hub, "a", *p) for p in (["orders:1"], ["orders:*"], ["orders:*", "orders:1"], ["x:*"])]
    for client in clients:
        stage.hub.join(client)
    stage.tick()
    stage.publish("orders:1", "orders:2")
    stage.tick()
    assert [client.text for client in clients] == [b"[0]", b"[0][1]", b"[0][1]", b""]


def test_another_tenants_message_on_the_same_channel_is_not_delivered():
    stage = Stage()
    client = Remembering(stage.hub, "a", "orders:*", "system:lag")
    stage.hub.join(client)
    stage.tick()
    stage.publish("orders:1", "system:lag", tenant="b")
    stage.publish("system:lag", tenant="a")
    stage.tick()
    assert client.text == b""


def test_a_paused_client_goes_on_where_it_stopped():
    stage = Stage()
    client = Remembering(stage.hub, "a", "orders:*", room=1)
    stage.hub.join(client)
    stage.tick()
    stage.publish("orders:1")
    stage.tick()
    stage.publish("orders:1", "orders:1")
    stage.tick()
    assert client.text == b"[0]"
    client.room = 10
    stage.hub.resumed(client)
    stage.publish("orders:1")
    stage.tick()
    assert client.text == b"[0][1][2][3]"
    stage.publish("orders:1")
    stage.tick()
    assert client.text == b"[0][1][2][3][4]"


def test_a_client_that_was_paused_too_long_gets_a_gap_and_then_goes_on():
    stage = Stage(messages=2)
    client = Remembering(stage.hub, "a", "orders:*", room=1)
    stage.hub.join(client)
    stage.tick()
    stage.publish("orders:1")
    stage.tick()
    stage.publish(*["orders:1"] * 5)
    stage.tick()
    client.room = 10
    stage.hub.resumed(client)
    stage.tick()
    stage.publish("orders:1")
    stage.tick()
    assert client.text.startswith(b"[0]")
    assert b'event: gap\ndata: {"first":1,"to":6,"reason":"evicted"}' in client.text
    assert client.text.endswith(b"[6]")


def test_a_client_that_joins_between_publishing_and_the_tick_gets_the_message_once():
    stage = Stage()
    stage.publish("orders:1")
    client = Remembering(stage.hub, "a", "orders:*", cursor=0)
    stage.hub.join(client)
    stage.publish("orders:1")
    stage.tick()
    assert client.text == b"[0][1]"


def test_repeats_at_the_end_of_the_log_do_not_hold_a_new_client_back():
    stage = Stage()
    stage.ring.pass_over(0)
    client = Remembering(stage.hub, "a", "orders:*", cursor=stage.ring.end)
    stage.hub.join(client)
    stage.tick()
    stage.publish("orders:1")
    stage.tick()
    assert client.text == b"[1]"


def test_values_are_conflated_within_a_tick_and_caught_up_after_a_pause():
    stage = Stage()
    client = Remembering(stage.hub, "a", "tools:*", room=2)
    stage.value(b"<1>")
    stage.hub.join(client)
    stage.tick()
    assert client.text == b"<1>"
    stage.value(b"<2>")
    stage.value(b"<3>")
    stage.tick()
    assert client.text == b"<1><3>"
    stage.value(b"<4>")
    stage.value(b"<5>")
    stage.tick()
    client.room = 10
    stage.hub.resumed(client)
    stage.tick()
    assert client.text == b"<1><3><5>"


def test_leaving_empties_the_index():
    stage = Stage()
    clients = [Remembering(stage.hub, "a", "orders:*", f"orders:{n}") for n in range(3)]
    for client in clients:
        stage.hub.join(client)
    stage.tick()
    for client in [*clients, *clients]:
        stage.hub.leave(client)
    assert not stage.hub.clients
    assert not stage.hub._index
    assert not stage.hub._groups
