"""What the host of all agents does at a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import faust
import pytest

from agents import host as agents_host
from agents.burial import Burial
from agents.effects import Effects, Prompt
from agents.host import AgentHost
from agents.metrics import AgentMetrics
from agents.owned_partition import Sinks
from agents.runner import Runner
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.kafka_outlet import Outlet
from streams.record_chunk import RecordChunk
from tables.store import Change
from tests.support.aio import run


class Waiting(Prompt):
    """Work that has something left to do until all works were told to finish, as behind one server that is away."""

    def __init__(self, finishing: list[int], of: int) -> None:
        self.finishing, self.of = finishing, of

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        del chunk, now_s

    def take(self, now_s: float) -> Effects:
        del now_s
        return Effects()

    def take_rows(self, now_s: float) -> Sequence[Change]:
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        del effects

    def finish(self) -> None:
        self.finishing.append(1)

    def is_drained(self, left_count: int) -> bool:
        del left_count
        return len(self.finishing) == self.of


def test_all_agents_drain_at_once_so_that_a_stop_takes_as_long_as_the_slowest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agents_host, "DRAIN_S", 60.0)
    finishing: list[int] = []
    clock, settings = ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), Settings()
    outlet, burial = Outlet(settings.kafka, clock), Burial(settings.postgres)
    sinks = Sinks(outlet, burial, AgentMetrics(Metrics()), clock, fatal=lambda *_: None)

    async def scenario() -> None:
        host = AgentHost(faust.App("t", broker="kafka://nowhere"), settings, sinks)
        host.runners = [Runner(f"agent {n}", lambda _partition: Waiting(finishing, 3), sinks) for n in range(3)]
        for runner in host.runners:
            runner.own([0])
        async with asyncio.timeout(30):
            await host.drain()
        for runner in host.runners:
            runner.revoke()

    run(scenario())
    assert len(finishing) == 3
