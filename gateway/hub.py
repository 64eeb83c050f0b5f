"""Fan-out: from new messages to the clients that want them. No task and no queue per client.

Clients with the same subscription form a group; an index names the groups of each (tenant, channel or pattern). A tick
collects what each group gets from all new messages, joins it once and writes it once to each live client. Clients that
cannot take more lag behind with a cursor and are pumped from the ring when their transport has room (`gateway.cursor`).

Order within a tick, which the pieces below rely on:
1. new messages are handed to groups, and `done` moves on: from here a client that pauses needs what comes at `done`;
2. every write of the tick is fixed (data, clients) before the first await, so a client that pauses during the writes
   still gets its share, and one that joins does not get it twice;
3. then lagging clients are pumped, up to `done`, and become live when nothing is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from contracts.names import SYSTEM_TENANT
from gateway import frames
from gateway.cursor import take
from gateway.subscription import Key, Subscription, patterns_of

if TYPE_CHECKING:
    from gateway.latest import Latest
    from gateway.observed import GatewayMetrics
    from gateway.ring import Entry, Ring
    from runtime.clock import Clock

PUMP_BYTES = 65_536
WRITES_BETWEEN_YIELDS = 500
# A busy hub rests as long as it worked, so that messages gather and one write carries several; idle, it adds nothing.
LONGEST_REST_S = 0.01
# The feed waits when this many messages have not been handed out yet.
BACKLOG_MESSAGES = 20_000


class Client(Protocol):
    """What the hub needs to know of a stream. `cursor` and `latest_number` mean something while it lags."""

    subscription: Subscription
    partition: int
    cursor: int
    latest_number: int
    paused_at_s: float | None

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; may call `Hub.paused` before it returns."""
        ...

    def close(self, last: bytes) -> None:
        """Write `last` and close once it is sent."""
        ...

    def abort(self) -> None:
        """Cut the connection."""
        ...


@dataclass(eq=False, slots=True)
class Group:
    """The live clients of one subscription, and what this tick brings them."""

    keys: frozenset[Key]
    live: set[Client] = field(default_factory=set)
    members: int = 0
    chunks: list[bytes] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)


class Fresh(NamedTuple):
    """A current value that has not been handed out yet."""

    tenant: str
    key: str
    channel: str
    chunk: bytes


class Hub:
    """All open streams of this process. Everything runs on the event loop that owns the sockets."""

    def __init__(self, latest: Latest, clock: Clock, metrics: GatewayMetrics) -> None:
        self.clients: set[Client] = set()
        self.rings: dict[int, Ring] = {}
        self.latest = latest
        self._done: dict[int, int] = {}
        self._clock = clock
        self._metrics = metrics
        self._groups: dict[frozenset[Key], Group] = {}
        self._index: dict[Key, dict[Group, None]] = {}
        self._fresh: list[Entry] = []
        self._fresh_values: list[Fresh] = []
        self._latest_done = 0
        self._pumping: dict[Client, None] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def follow(self, partition: int, ring: Ring) -> None:
        """Serve a partition from `ring`, which is empty still."""
        self.rings[partition] = ring
        self._done[partition] = ring.end

    def publish(self, entry: Entry) -> None:
        """Announce a message that was just appended to its partition's ring."""
        self._fresh.append(entry)
        if len(self._fresh) >= BACKLOG_MESSAGES:
            self._room.clear()
        self._wake.set()

    def publish_value(self, tenant: str, key: str, channel: str, chunk: bytes) -> None:
        """Announce a value that was just put into `latest`."""
        self._fresh_values.append(Fresh(tenant, key, channel, chunk))
        self._wake.set()

    async def room(self) -> None:
        """Wait until the backlog of messages is below its limit; the hub's own tick bounds the wait."""
        await self._room.wait()

    def join(self, client: Client) -> None:
        """Take a client in; it lags at its `cursor` and gets all current values in the next tick."""
        self.clients.add(client)
        keys = client.subscription.keys
        group = self._groups.get(keys)
        if group is None:
            group = self._groups[keys] = Group(keys)
            for key in keys:
                self._index.setdefault(key, {})[group] = None
        group.members += 1
        self._metrics.connections.set(len(self.clients))
        # Its opening bytes may have filled the transport already: then it is pumped when there is room.
        if client.paused_at_s is None:
            self.resumed(client)

    def leave(self, client: Client) -> None:
        """Forget a client; harmless when it never joined or left before."""
        if client not in self.clients:
            return
        self.clients.discard(client)
        self._pumping.pop(client, None)
        keys = client.subscription.keys
        group = self._groups[keys]
        group.live.discard(client)
        group.members -= 1
        if group.members == 0:
            del self._groups[keys]
            for key in keys:
                del self._index[key][group]
                if not self._index[key]:
                    del self._index[key]
        self._metrics.connections.set(len(self.clients))

    def paused(self, client: Client) -> None:
        """The client's transport is full: it lags from here on."""
        client.paused_at_s = self._clock.monotonic_s()
        self._pumping.pop(client, None)
        group = self._groups.get(client.subscription.keys)
        if group is not None and client in group.live:
            group.live.discard(client)
            client.cursor = self._done.get(client.partition, 0)
            client.latest_number = self._latest_done

    def resumed(self, client: Client) -> None:
        """The client's transport has room again: pump it in the next tick."""
        client.paused_at_s = None
        if client in self.clients:
            self._pumping[client] = None
            self._wake.set()

    async def run(self) -> None:
        """Tick for ever, at most one tick behind the feed; ends by cancellation only."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            began_s = self._clock.monotonic_s()
            await self.tick()
            await asyncio.sleep(min(LONGEST_REST_S, self._clock.monotonic_s() - began_s))

    async def tick(self) -> None:
        """Hand out what is new, write it, pump who lags. Yields to the loop every 500 writes."""
        fresh, self._fresh = self._fresh, []
        values, self._fresh_values = self._fresh_values, []
        self._latest_done = self.latest.number
        self._room.set()
        touched: dict[Group, None] = {}
        self._hand_out(fresh, touched)
        self._hand_out_values(values, touched)
        writes = [(tuple(group.live), _joined(group)) for group in touched]
        written = 0
        for clients, data in writes:
            for client in clients:
                client.write(data)
                written += 1
                if written % WRITES_BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)
        self._metrics.observe_tick(self._clock.wall_s(), [entry.at_s for entry in fresh])
        await self._pump_all()

    def _hand_out(self, fresh: Iterable[Entry], touched: dict[Group, None]) -> None:
        sent = 0
        for entry in fresh:
            for group in self._groups_of(entry.tenant, entry.channel):
                if group.live:
                    group.chunks.append(entry.chunk)
                    touched[group] = None
                    sent += len(group.live)
        # All that the rings hold has been handed out now, and repeats that are never shown count as done.
        for partition, ring in self.rings.items():
            self._done[partition] = ring.end
        self._metrics.sent.inc(sent)

    def _hand_out_values(self, values: Iterable[Fresh], touched: dict[Group, None]) -> None:
        for value in values:
            for group in self._groups_of(value.tenant, value.channel):
                if group.live:
                    group.values[f"{value.tenant}\x1f{value.key}"] = value.chunk
                    touched[group] = None

    def _groups_of(self, tenant: str, channel: str) -> Iterable[Group]:
        found: dict[Group, None] = {}
        for pattern in patterns_of(channel):
            groups = self._index.get(Key(tenant, pattern))
            if groups:
                found = found | groups if found else groups
        return found

    async def _pump_all(self) -> None:
        for count, client in enumerate(list(self._pumping), start=1):
            # It may have left or paused during a yield.
            if client in self._pumping:
                self._pump(client)
            if count % WRITES_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)

    def _pump(self, client: Client) -> None:
        ring = self.rings.get(client.partition)
        subscription = client.subscription
        chunks = self.latest.since(SYSTEM_TENANT, client.latest_number, subscription.wants_system)
        chunks += self.latest.since(subscription.tenant, client.latest_number, subscription.wants)
        client.latest_number = self.latest.number
        live = True
        if ring is not None:
            done = self._done[client.partition]
            taken = take(
                ring, subscription.tenant, client.cursor, subscription.wants, upto=done, budget_bytes=PUMP_BYTES
            )
            self._metrics.resumed.inc(len(taken.chunks))
            chunks += taken.chunks
            if taken.gap is not None:
                self._metrics.gaps.inc()
                chunks.append(frames.control("gap", taken.gap._asdict()))
            client.cursor, live = taken.cursor, taken.live
        if live:
            # Before the write: when that fills the transport, `paused` must find a live client and note its place.
            del self._pumping[client]
            self._groups[subscription.keys].live.add(client)
        elif chunks:
            self._wake.set()
        if chunks:
            client.write(b"".join(chunks))


def _joined(group: Group) -> bytes:
    data = b"".join((*group.values.values(), *group.chunks))
    group.chunks.clear()
    group.values.clear()
    return data
