"""The sample shop, as a process of its own: commits orders and tool calls with their outbox rows, in real transactions.

`python -m headrace.devkit.shop --rate 20` does what `headrace.devkit.traffic` plans, when it plans it, and beside it
what `headrace.devkit.side_traffic` does. Several lanes, each with its own connection, share the work; all steps of one
order, unit or voice session go through one lane, so that they commit in order.
When PostgreSQL goes away, a lane connects again and goes on where it was: a transaction whose outcome is unknown is
looked up by its outbox row before it is repeated. With `--ledger`, every committed event is written down.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from contracts.errors import ServerMissing
from contracts.names import TenantId
from contracts.orders import OrderStatus
from contracts.outbox import OutboxRow, dedupe_id
from contracts.times import epoch_ms
from contracts.tools import ToolCall, ToolExecuted
from headrace.devkit.files import appeared
from headrace.devkit.ledger import Committed, LedgerWriter
from headrace.devkit.side_step import SideStep
from headrace.devkit.side_traffic import side_plan
from headrace.devkit.traffic import OrderStep, ToolStep, plan
from runtime.clock import Clock, SystemClock
from runtime.logs import configure, get_logger
from runtime.process import run_until_signalled
from runtime.settings import PostgresSettings, Settings, load
from streams import postgres
from streams.outbox import OutboxTransaction, OutboxWriter
from streams.postgres import Connection
from streams.redis_log import RedisLog

log = get_logger(__name__)

VERSION = "1.0"
# One transaction takes some 5 ms; a lane that is asked for 20 a second is idle nine tenths of the time.
STEPS_PER_LANE_S = 20.0
MOST_LANES = 32
# Steps that wait for a lane; when PostgreSQL is away for longer, the plan itself waits.
QUEUE_STEPS = 1000
RECONNECT_S = 0.2

NEW_ORDER = "INSERT INTO shop.shop_order (id, tenant_id, status) VALUES ($1, $2, $3)"
CHANGE_ORDER = "UPDATE shop.shop_order SET status = $3, changed_at = clock_timestamp() WHERE id = $1 AND tenant_id = $2"
IS_COMMITTED = "SELECT EXISTS (SELECT 1 FROM outbox WHERE id = $1 AND created_at = $2)"

Step = OrderStep | ToolStep | SideStep


class _RolledBack(Exception):  # noqa: N818 - what the plan asked for, not an error
    """Ends a transaction that the plan wants rolled back."""


@dataclass(frozen=True)
class _Written:
    """A row inside its transaction, and the moment just before the commit."""

    row: OutboxRow
    event_at: datetime
    committing_s: float


class Lane:
    """One connection and the steps that go through it, in order."""

    def __init__(
        self, settings: PostgresSettings, writer: OutboxWriter, ledger: LedgerWriter | None, clock: Clock
    ) -> None:
        self.queue: asyncio.Queue[Step | None] = asyncio.Queue(QUEUE_STEPS)
        self._settings = settings
        self._writer = writer
        self._ledger = ledger
        self._clock = clock
        self._connection: Connection | None = None
        self._written: _Written | None = None

    async def run(self) -> None:
        """Do the queued steps until None comes."""
        try:
            while (step := await self.queue.get()) is not None:
                await self._until_done(step)
        finally:
            if self._connection is not None:
                await postgres.close(self._connection)

    async def _until_done(self, step: Step) -> None:
        self._written = None
        while True:
            try:
                await self._attempt(step)
            except ServerMissing as error:
                log.warning("shop waits for PostgreSQL", error=str(error))
                await self._hang_up()
                await asyncio.sleep(RECONNECT_S)
            else:
                return

    async def _attempt(self, step: Step) -> None:
        connection = await self._connected()
        with postgres.translated(self._settings):
            if not await self._committed_before(connection):
                try:
                    async with self._writer.transaction(connection) as outbox:
                        self._written = await self._write(connection, outbox, step)
                        _roll_back_if(asked=step.rolled_back)
                except _RolledBack:
                    self._note({"kind": "rolled_back"})
                    return
        if self._written is not None:
            self._note(asdict(_committed(step, self._written)))

    async def _committed_before(self, connection: Connection) -> bool:
        """Whether an earlier attempt, whose commit was never confirmed, went through after all."""
        if self._written is None:
            return False
        row = self._written.row
        return bool(await connection.fetchval(IS_COMMITTED, row.id, row.created_at))

    async def _write(self, connection: Connection, outbox: OutboxTransaction, step: Step) -> _Written:
        now = self._clock.now()
        event_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
        if isinstance(step, OrderStep):
            change = NEW_ORDER if step.seq == 0 else CHANGE_ORDER
            # The order's own row is locked before its event is appended: ids then follow the commits.
            await connection.execute(change, step.order_id, step.tenant.id, step.status)
            row = await outbox.append(_order_event(step, event_at), aggregate_type="order", aggregate_id=step.order_id)
        elif isinstance(step, SideStep):
            row = await outbox.append(step.event, aggregate_type=step.aggregate, aggregate_id=step.owner)
            event_at = step.event.ts
        else:
            row = await outbox.append(
                _tool_event(step, event_at), aggregate_type="tool", aggregate_id=f"{step.tenant.name}:{step.number}"
            )
        return _Written(row, event_at, self._clock.wall_s())

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await postgres.connect(self._settings, name="headrace-shop")
        return self._connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await postgres.close(connection)

    def _note(self, line: dict[str, object]) -> None:
        if self._ledger is not None:
            self._ledger.write(line)


def _roll_back_if(*, asked: bool) -> None:
    if asked:
        raise _RolledBack


def _order_event(step: OrderStep, at: datetime) -> OrderStatus:
    return OrderStatus(
        version=VERSION, tenant_id=TenantId(step.tenant.id), order_id=step.order_id, status=step.status, ts=at
    )


def _tool_event(step: ToolStep, at: datetime) -> ToolCall | ToolExecuted:
    tenant = TenantId(step.tenant.id)
    if step.error is None:
        return ToolCall(
            version=VERSION,
            tool=step.tool,
            args={"n": step.number},
            latency_ms=step.latency_ms,
            ts=at,
            tenant_id=tenant,
        )
    return ToolExecuted(
        version=VERSION,
        tenant_id=tenant,
        tool=step.tool,
        latency_ms=step.latency_ms,
        status="error" if step.error else "ok",
        ts=at,
    )


def _committed(step: Step, written: _Written) -> Committed:
    line = Committed(
        kind="order",
        outbox_id=written.row.id,
        push_id=dedupe_id(written.row),
        tenant=str(step.event.tenant_id) if isinstance(step, SideStep) else step.tenant.id,
        key=_key_of(step),
        seq=0,
        committed_s=written.committing_s,
        event_ms=epoch_ms(written.event_at),
    )
    match step:
        case OrderStep():
            return replace(line, seq=step.seq)
        case ToolStep():
            return replace(line, kind="tool", latency_ms=step.latency_ms, error=bool(step.error))
        case SideStep():
            return replace(line, kind=step.aggregate)


def _key_of(step: Step) -> str:
    """What a step is about."""
    match step:
        case OrderStep():
            return step.order_id
        case ToolStep():
            return step.tool
        case SideStep():
            return step.owner


async def dispatch(lanes: list[Lane], rate_per_s: float, duration_s: float, clock: Clock, stop: asyncio.Event) -> None:
    """Hand each planned step to its lane when it is due, until the time is over or `stop` is set."""
    started_s, run, opened_at = clock.monotonic_s(), str(clock.wall_s()), clock.now()
    shop: Iterator[Step] = plan(rate_per_s=rate_per_s, run=run, uniform=clock.uniform)
    beside: Iterator[Step] = side_plan(rate_per_s=rate_per_s, run=run, uniform=clock.uniform, opened_at=opened_at)
    for step in heapq.merge(shop, beside, key=lambda step: step.at_s):
        if step.at_s >= duration_s:
            return
        pause_s = started_s + step.at_s - clock.monotonic_s()
        if pause_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)
        if stop.is_set():
            return
        lane = step.number if isinstance(step, ToolStep) else hash(_key_of(step))
        await lanes[lane % len(lanes)].queue.put(step)


async def trade(
    settings: Settings, *, rate_per_s: float, duration_s: float, ledger_path: Path | None, stop: asyncio.Event
) -> None:
    """Run the shop to the end of its time; what is under way is finished and written down."""
    clock = SystemClock()
    lane_count = max(2, min(MOST_LANES, round(rate_per_s / STEPS_PER_LANE_S)))
    async with AsyncExitStack() as cleanup:
        ledger = cleanup.enter_context(LedgerWriter(ledger_path) if ledger_path is not None else nullcontext())
        redis = RedisLog(settings.redis, settings.prefix, client_name="headrace-shop")
        cleanup.push_async_callback(redis.close)
        writer = OutboxWriter(redis, clock)
        lanes = [Lane(settings.postgres, writer, ledger, clock) for _ in range(lane_count)]
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane.run())
            await dispatch(lanes, rate_per_s, duration_s, clock, stop)
            for lane in lanes:
                await lane.queue.put(None)
        if ledger is not None:
            ledger.write({"kind": "end"})


def main(arguments: list[str] | None = None) -> int:
    """The process' entry; returns its exit status."""
    parser = argparse.ArgumentParser(prog="headrace.devkit.shop")
    parser.add_argument("--rate", type=float, required=True, help="steps a second")
    parser.add_argument("--duration", type=float, default=float("inf"), help="seconds; for ever without it")
    parser.add_argument("--ledger", type=Path, help="where to write down what was committed")
    parser.add_argument("--after", type=Path, help="begin once this file is there")
    given = parser.parse_args(arguments)
    settings = load()
    configure(settings.log, process="shop")

    async def open_shop(stop: asyncio.Event) -> None:
        if given.after is None or await appeared(given.after, stop):
            await trade(settings, rate_per_s=given.rate, duration_s=given.duration, ledger_path=given.ledger, stop=stop)

    return run_until_signalled(open_shop)


if __name__ == "__main__":
    sys.exit(main())
