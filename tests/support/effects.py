"""An effect agent's partition without broker and Faust: flushes write into a store, a successor takes it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from agents.effect import Dead, Done, Outcome, Reason, RetryLater, Try
from agents.effect_calls import EffectSurroundings
from agents.effect_counts import EffectCounts
from agents.effect_work import EffectWork
from agents.effects import Effects, PartitionWork
from contracts.names import Consumer
from contracts.requeue import Origin, Requeued, to_headers
from reliability.limiter import LocalLimiter, Verdict, Want
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings_retry import RetrySettings
from streams.dead_letters import DeadLetter, Recovered
from streams.record_chunk import SourceRecord
from tables.incarnations import incarnation_of
from tables.store import MemoryStore, RowStore
from tests.support.chunks import LogRecord, chunk

CLUSTER = "1a2b3c4d"
SOURCE, BACK = "headrace.orders", "headrace.retry.adapter"
BUSY, BROKEN, REFUSED = Reason("Busy", "503"), Reason("Broken", "400"), Reason("BreakerOpen", "open")
LATER, DEAD, NOT_NOW = RetryLater(BUSY), Dead(BROKEN), RetryLater(REFUSED, spends=False)

Script = Callable[[SourceRecord, Try], Outcome]


class Shop:
    """What is called: it answers by a script, or, while `held`, when it is let go. Values are `aggregate:what`."""

    def __init__(self) -> None:
        self.script: Script = lambda _record, _which: Done()
        self.called: list[tuple[str, int]] = []
        self.done: list[str] = []
        self.under_way: dict[str, asyncio.Event] = {}
        self.held = False

    def aggregate(self, record: SourceRecord) -> str:
        return _value(record).partition(":")[0]

    async def run(self, record: SourceRecord, which: Try) -> Outcome:
        name = _value(record)
        self.called.append((name, which.number))
        if self.held:
            gate = self.under_way.setdefault(name, asyncio.Event())
            try:
                await gate.wait()
            finally:
                del self.under_way[name]
        outcome = self.script(record, which)
        if isinstance(outcome, Done):
            self.done.append(name)
        return outcome


class CountingLimiter(LocalLimiter):
    """Counts how often it was asked."""

    asked = 0

    def take(self, wants: Sequence[Want], cost: int = 1, *, parts: int = 1) -> Verdict:
        self.asked += 1
        return super().take(wants, cost, parts=parts)


class EffectBench:
    """One partition. `flush` is all steps of `agents.owned_partition`; `die` loses what no flush has written."""

    def __init__(self, **policy: Any) -> None:  # noqa: ANN401 - any of the settings
        self.clock, self.shop = ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), Shop()
        self.store: RowStore = MemoryStore()
        self.policy = RetrySettings(**policy)
        self.letters: list[DeadLetter] = []
        self.recovered: list[Recovered] = []
        self.acknowledged_to = -1
        self.workers = 1
        self.work: PartitionWork = self.opened()

    def opened(self) -> EffectWork:
        """A work that takes up what is in the store."""

        def fatal(what: str, cause: BaseException) -> None:
            raise AssertionError(what) from cause

        self.limiter = CountingLimiter(self.clock)
        around = EffectSurroundings(
            Consumer.ADAPTER,
            self.shop,
            self.policy,
            self.clock,
            EffectCounts(Metrics()),
            self.limiter,
            lambda: self.workers,
            cluster=lambda: CLUSTER,
            wake=lambda _partition: None,
            fatal=fatal,
        )
        self.store.open(0)
        return EffectWork(0, self.store, incarnation_of(self.store, 0, "topic id"), around)

    async def fold(self, first: int, *values: str, tenant: str = "A") -> None:
        """Records of the source from this offset on."""
        headers = [("tenant", tenant.encode())]
        records = [LogRecord(v.encode(), first + i, headers=headers) for i, v in enumerate(values)]
        self.work.fold(chunk(records, topic=SOURCE), 0.0)
        await settle()

    async def take_back(self, *letters: tuple[int, str, int, int], tenant: str = "A") -> None:
        """Letters on the retry topic: number, value, the offset where it first stood, id."""
        records = [
            LogRecord(
                value.encode(),
                at,
                headers=[
                    ("tenant", tenant.encode()),
                    *to_headers(Requeued(Origin(SOURCE, CLUSTER, 0, offset), letter_id, seq)),
                ],
            )
            for at, (seq, value, offset, letter_id) in enumerate(letters)
        ]
        self.work.take_back(chunk(records, topic=BACK), 0.0)
        await settle()

    async def flush(self) -> Effects:
        """One whole flush; then what may run is started."""
        effects = self.half_a_flush()
        self.recovered += effects.recovered
        self.work.settled(effects)
        if effects.source_from is not None:
            self.acknowledged_to = effects.source_from - 1
        await settle()
        return effects

    def half_a_flush(self) -> Effects:
        """Letters are buried and rows are written; nobody is told, and nothing acknowledged."""
        effects = self.work.take(0.0)
        self.letters += effects.letters
        self.store.write(0, effects.rows)
        return effects

    async def pass_s(self, seconds: float) -> Effects:
        """Time passes, then a flush looks at what is due, and the next one writes down what became of it."""
        self.clock.advance(seconds)
        await self.flush()
        return await self.flush()

    async def die(self) -> None:
        """SIGKILL; a successor takes up what is durable."""
        await self.work.stop()
        self.work = self.opened()

    def called(self) -> list[str]:
        """What was called for, in order, repeats and all."""
        return [name for name, _try in self.shop.called]

    def let_go(self, names: Sequence[str]) -> None:
        """These calls come to their end."""
        for name in names:
            self.shop.under_way[name].set()


def _value(record: SourceRecord) -> str:
    return (record.value or b"").decode()


async def settle() -> None:
    """Let tasks run that wait for nothing."""
    for _ in range(10):
        await asyncio.sleep(0)
