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


class Cut(Waiting):
    """Work that calls something which ends only when it is closed; what came of it is written by the next flush."""

    def __init__(self) -> None:
        super().__init__([], 0)
        self.is_closed = self.is_written = False

    async def close(self) -> None:
        self.is_closed = True

    def take(self, now_s: float) -> Effects:
        self.is_written = self.is_closed
        return super().take(now_s)

    def is_drained(self, left_count: int) -> bool:
        del left_count
        return self.is_written


def sinks_of(settings: Settings) -> Sinks:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    outlet, burial = Outlet(settings.kafka, clock), Burial(settings.postgres)
    return Sinks(outlet, burial, AgentMetrics(Metrics()), clock, fatal=lambda *_: None)


def test_what_became_of_calls_that_closing_cut_is_written_before_the_process_stops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agents_host, "DRAIN_S", 0.01)
    monkeypatch.setattr(agents_host, "LAST_S", 60.0)
    settings, work = Settings(), Cut()
    sinks = sinks_of(settings)

    async def scenario() -> None:
        host = AgentHost(faust.App("t", broker="kafka://nowhere"), settings, sinks)
        host.runners = [Runner("agent", lambda _partition: work, sinks)]
        host.at_close(work.close)
        host.runners[0].own([0])
        async with asyncio.timeout(30):
            await host.drain()
        assert work.is_written
        host.runners[0].revoke()

    run(scenario())


def test_all_agents_drain_at_once_so_that_a_stop_takes_as_long_as_the_slowest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agents_host, "DRAIN_S", 60.0)
    finishing: list[int] = []
    settings = Settings()
    sinks = sinks_of(settings)

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
