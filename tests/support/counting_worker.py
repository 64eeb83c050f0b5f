"""A worker with one small table, for tests of stores and recovery: it counts the records of the tools topic by key.

Everything but the fold is the real thing: application, host, runner, outlet, store. Started as
`faust -A tests.support.counting_worker worker -l info`; prints one line of JSON each time it owns its partitions.
A value of `-` deletes the key's row, as expiry does.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import msgspec

from agents.burial import Burial
from agents.effects import Effects, Prompt
from agents.host import AgentHost
from agents.metrics import AgentMetrics
from agents.owned_partition import Sinks
from agents.progress_watch import ProgressMetrics, ProgressWatch
from contracts.names import TenantId, Topic, kafka_topic
from headrace.worker_app import HeadraceApp, end_process, faust_options
from headrace.worker_web import WorkerWeb
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings, load
from streams import batches
from streams.kafka_outlet import Outlet
from tables.rows import WindowKey, encode_key, scan_bounds
from tables.store import Change
from tables.window_table import WindowTable, window_table

if TYPE_CHECKING:
    from streams.record_chunk import RecordChunk

TABLE = "counted"
KIND = "ct"

Row = tuple[int, int, int, int]
EMPTY: Row = (1, -1, -1, 0)
decode_row = msgspec.msgpack.Decoder(tuple[int, int, int, int]).decode


def row_key(name: str) -> bytes:
    return encode_key(KIND, WindowKey(TenantId(name), (), 0))


class CountingWork(Prompt):
    """One partition: rows of (format, position, announced, count)."""

    def __init__(self, table: WindowTable, partition: int) -> None:
        self._incarnation = table.incarnation(partition)
        self._to_write = [] if self._incarnation.to_write is None else [self._incarnation.to_write]
        self._table, self._partition = table, partition
        self._rows: dict[bytes, Row | None] = {}
        # On their way to the changelog, not in the store yet.
        self._leaving: dict[bytes, Row | None] = {}

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        del now_s
        for record in chunk:
            key = row_key((record.key or b"").decode())
            row = self._row(key)
            position = self._incarnation.base + record.offset
            if record.value == b"-":
                self._rows[key] = None
            elif position > row[1]:
                self._rows[key] = (1, position, -1, row[3] + 1)

    def take(self, now_s: float) -> Effects:
        del now_s
        rows, self._rows = self._rows, {}
        self._leaving = rows
        meta, self._to_write = self._to_write if rows else [], self._to_write if not rows else []
        return Effects(
            rows=(*meta, *((key, None if row is None else msgspec.msgpack.encode(row)) for key, row in rows.items()))
        )

    def take_rows(self, now_s: float) -> tuple[Change, ...]:
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        del effects
        self._leaving = {}

    def _row(self, key: bytes) -> Row:
        for held in (self._rows, self._leaving):
            if key in held:
                return held[key] or EMPTY
        raw = self._table.rows.get(self._partition, key)
        return EMPTY if raw is None else decode_row(raw)


def build(settings: Settings) -> HeadraceApp:
    app = HeadraceApp(**faust_options(settings))
    app.settings_in_use = settings
    metrics, health, clock = Metrics(), Health(needs=("reading",)), SystemClock()
    source = kafka_topic(settings.prefix, Topic.TOOLS)
    batches.install(app, settings.kafka, {source: True}, lambda: health.set_ready("reading", ok=True))
    app.outlet, app.burial = Outlet(settings.kafka, clock), Burial(settings.postgres)
    app.metrics = metrics
    app.web_service = WorkerWeb(settings.worker.host, lambda: app.conf.web_port, health, metrics, lambda _app: None)
    host = AgentHost(app, settings, Sinks(app.outlet, app.burial, AgentMetrics(metrics), clock, fatal=end_process))
    app.progress = ProgressWatch(
        app, settings, host.waiting, health, ProgressMetrics(metrics), clock, fatal=end_process
    )
    app.beside = (app.progress.run,)
    table = window_table(app, TABLE, settings.kafka.partitions)
    host.attach("counting", Topic.TOOLS, lambda n: CountingWork(table, n), table=table, describe="Counts by key.")
    _tell(table)

    @app.on_before_shutdown.connect(weak=False)
    async def closed(*_args: object, **_kwargs: object) -> None:
        await host.drain()
        await app.outlet.stop()

    return app


def _tell(table: WindowTable) -> None:
    own = table.on_owned

    def owned(partitions: frozenset[int]) -> None:
        own(partitions)
        rows = {
            key.hex(): list(decode_row(value))
            for partition in partitions
            for key, value in table.rows.scan(partition, *scan_bounds(KIND, 0, 0, 1))
        }
        told = {
            "owned": sorted(partitions),
            "standby": sorted(table.rows.partitions() - partitions),
            "replayed": table.replayed,
            "rows": len(rows),
            "total": sum(row[3] for row in rows.values()),
        }
        # Not sys.stdout, which Faust makes into log lines.
        print(f"told {json.dumps(told)}", file=sys.__stdout__, flush=True)

    table.on_owned = owned


app = build(load())
