"""Tool calls for the engine's fault suite: a steady flow into the tools topic, from a seed, some of them broken."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from contracts.names import Topic, kafka_topic
from runtime.settings import Settings
from streams import topics
from streams.kafka_log import Cluster, Outgoing
from streams.kafka_producer import Producer

TENANTS = tuple(f"{n}1111111-1111-4111-8111-111111111111" for n in range(1, 6))
TOOLS = ("search", "price", "stock", "refund", "translate", "route")
PAUSE_S = 0.05
# Events are dated up to this far back: some come late into a window that is closed already.
JITTER_S = 4.0
BROKEN_RATIO = 0.005


class Load:
    """A flow of calls; `sent` counts what the broker has acknowledged."""

    def __init__(self, settings: Settings, *, rate_per_s: int, seed: int, broken_ratio: float) -> None:
        self.sent = 0
        self._settings = settings
        self._records = max(1, int(rate_per_s * PAUSE_S))
        self._rng = random.Random(seed)
        self._broken_ratio = broken_ratio
        self._stop = asyncio.Event()
        self._topic = kafka_topic(settings.prefix, Topic.TOOLS)

    async def run(self) -> None:
        """Send until `stop`; what a busy broker does not take within its time fails the test."""
        producer = Producer(self._settings.kafka)
        await producer.start()
        try:
            while not self._stop.is_set():
                records = [self._record() for _ in range(self._records)]
                await producer.send_all(records)
                self.sent += len(records)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), PAUSE_S)
        finally:
            await producer.stop()

    def stop(self) -> None:
        """End the flow after the records under way."""
        self._stop.set()

    def _record(self) -> Outgoing:
        rng, now_s = self._rng, time.time()
        tenant, tool = rng.choice(TENANTS), rng.choice(TOOLS)
        at_s = now_s - rng.uniform(0, 1) ** 4 * JITTER_S
        event = {
            "event": "tool_call",
            "version": "1.0",
            "tenant_id": tenant,
            "tool": tool,
            "args": {"q": rng.randrange(1000)},
            "latency_ms": round(rng.lognormvariate(4.5, 0.8), 3),
            "status": "error" if rng.random() < 0.05 else "ok",
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{int(at_s * 1000) % 1000:03d}Z",
        }
        value = b"{broken" if rng.random() < self._broken_ratio else json.dumps(event).encode()
        return Outgoing(self._topic, f"{tenant}\x1f{tool}".encode(), value, [], int(now_s * 1000))


@asynccontextmanager
async def flowing(
    settings: Settings, *, rate_per_s: int, seed: int, broken_ratio: float = BROKEN_RATIO
) -> AsyncIterator[Load]:
    """A load that flows while the body runs."""
    load = Load(settings, rate_per_s=rate_per_s, seed=seed, broken_ratio=broken_ratio)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        await task


async def make_topics(settings: Settings) -> None:
    """Every topic of the table of topics, before anybody reads."""
    cluster = Cluster(settings.kafka)
    await cluster.start()
    try:
        await topics.ensure(cluster, settings)
    finally:
        await cluster.stop()
