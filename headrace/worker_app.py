"""The Faust application: our settings as Faust's, and what has to hold before it starts.

It leans on faust.App, BootStrategy and the conf names of faust-streaming 0.15.3. Faust's own web server stays off: it
starts only after recovery, and shows tables to anybody. `headrace.worker_web` serves views, metrics and health.
"""

from __future__ import annotations

import fcntl
import logging
import os
from typing import TYPE_CHECKING, Any, NoReturn, cast

import faust
from faust.app.base import BootStrategy

from contracts.errors import HeadraceError, SettingsError
from runtime import allocator, collector, tokens
from runtime.clock import SystemClock
from runtime.logs import configure, get_logger
from runtime.process import report
from runtime.settings_processes import refuse_guarantee
from streams import changelogs, group_rules, topics
from streams.changelogs import ChangelogWatch
from streams.kafka_admin import Admin
from streams.kafka_log import kafka_down
from tables.rocks_store import RocksMemory, RocksStore
from tables.store import MemoryStore
from tables.table_metrics import TableMetrics
from tables.window_table import WindowTable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from mode.types import ServiceT
    from yarl import URL

    from agents.burial import Burial
    from agents.progress_watch import ProgressWatch
    from headrace.worker_web import WorkerWeb
    from runtime.metrics import Metrics
    from runtime.settings import Settings
    from streams.kafka_outlet import Outlet
    from tables.store import RowStore

# A dead member is missed after its session; so long the group waits for one that is alive and busy.
REBALANCE_S = 30.0
# What was flushed and is not committed yet is folded again after a crash, and counts as lag.
COMMIT_INTERVAL_S = 0.2
# Faust reads it, with APP_ENV_PREFIX in front where that is set.
GUARANTEE_VARIABLE = "PROCESSING_GUARANTEE"
# Files that were left alone for this long may lack deletions that the changelog forgets an hour later.
MAX_STORE_AGE_S = changelogs.DELETIONS_KEPT_MS / 1000 - 3600


class Boot(BootStrategy):
    """Starts our web server first, so that health can be asked for during recovery."""

    def web_server(self) -> Iterable[ServiceT]:
        """Our server in place of Faust's."""
        return [cast("HeadraceApp", self.app).web_service]


class HeadraceApp(faust.App):
    """The worker. `headrace.worker.build` sets these before anything starts."""

    BootStrategy = Boot
    settings_in_use: Settings
    web_service: WorkerWeb
    burial: Burial
    outlet: Outlet
    progress: ProgressWatch
    # What runs from the first start to the stop, beside everything else; ended by cancellation.
    beside: Iterable[Callable[[], Coroutine[Any, Any, None]]]
    metrics: Metrics
    _lock_file: int = -1
    # Numbers of rebalances (Faust counts them): the last one that brought partitions, and the one whose recovery ends.
    _assigned_rebalance = 0
    _recovered_rebalance = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  Faust's own signature
        super().__init__(*args, **kwargs)
        self.on_partitions_assigned.connect(self._assigned, weak=False)
        self.on_rebalance_complete.connect(self._recovered, weak=False)

    @property
    def web_server_url(self) -> URL:
        """What Faust's banner shows."""
        return self.conf.canonical_url

    async def _assigned(self, *_args: object, **_kwargs: object) -> None:
        self._assigned_rebalance = self.rebalancing_count

    async def _recovered(self, *_args: object, **_kwargs: object) -> None:
        if self._assigned_rebalance == self.rebalancing_count:
            self._recovered_rebalance = self.rebalancing_count

    def on_rebalance_end(self) -> None:
        """A rebalance is over.

        Faust says so as well at the end of a recovery that the next rebalance has overtaken. Believed, sources would be
        read while the next recovery ends and clears the queues: records lost (seam 3 of `streams.batches`).
        """
        if self._recovered_rebalance == self.rebalancing_count:
            super().on_rebalance_end()

    async def on_first_start(self) -> None:
        """Check what a start needs; a clear line and an exit status instead of a traceback when it is missing.

        Faust turns an exception here into an endless restart, so this ends the process.
        """
        await super().on_first_start()
        allocator.keep_memory()
        collector.tune()
        # After Faust's own set-up of logging: one shape for every process. `-l` gives way to log.level.
        configure(self.settings_in_use.log, process="worker")
        try:
            self._refuse_guarantee()
            tokens.secret_of(self.settings_in_use.auth)
            self._take_data_dir()
            await self._check_topics()
            self._give_stores()
            await self.outlet.start()
        except HeadraceError as error:
            _exit(report(error))
        for task in self.beside:
            self.add_future(task())

    def _refuse_guarantee(self) -> None:
        """Faust lets its environment variable override what we say, so ask what it made of it."""
        try:
            refuse_guarantee(str(self.conf.processing_guarantee.value))
        except ValueError as error:
            raise SettingsError(f"Faust's processing_guarantee: {error}; unset {GUARANTEE_VARIABLE}") from None

    def _take_data_dir(self) -> None:
        """Hold the data folder for this process alone; the lock goes with the process."""
        folder = self.settings_in_use.worker.data_dir
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(folder / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"worker.data_dir: {folder} is in use by another worker; give each its own (HEADRACE_WORKER__DATA_DIR)"
            ) from None

    async def _check_topics(self) -> None:
        """Create missing topics; those that are there must have as many partitions as the settings say.

        And the brokers must be willing to take this worker into its group.
        """
        settings = self.settings_in_use
        cluster = Admin(settings.kafka)
        await cluster.start()
        try:
            await topics.ensure(cluster, settings)
            await changelogs.ensure(cluster, settings, [table.changelog_name for table in self._window_tables()])
            found = await cluster.topics(topics.named(settings.prefix))
            self.burial.incarnation = await cluster.epoch()
            objection = await group_rules.objection(cluster, settings)
        finally:
            await cluster.stop()
        if objection:
            raise SettingsError(objection)
        for wanted in topics.wanted(settings):
            if wanted.name not in found:
                raise kafka_down(settings.kafka, f"topic {wanted.name} is missing")
            if found[wanted.name] != wanted.partitions:
                raise SettingsError(
                    f"kafka.partitions: is {wanted.partitions}, but topic {wanted.name} has {found[wanted.name]}; "
                    "set HEADRACE_KAFKA__PARTITIONS to what the topics have"
                )

    def _give_stores(self) -> None:
        """Say where each table's rows are kept. Files are opened when partitions are assigned."""
        settings, clock = self.settings_in_use, SystemClock()
        watch, metrics = ChangelogWatch(settings.kafka), TableMetrics(self.metrics)
        folder = settings.worker.data_dir / "tables"
        memory = RocksMemory(settings.store.cache_bytes) if settings.store.kind == "rocksdb" else None
        for table in self._window_tables():
            rows: RowStore = MemoryStore()
            if memory is not None:
                rows = RocksStore(folder / str(table.name), memory, clock, max_age_s=MAX_STORE_AGE_S)
            table.use(rows, watch, clock, metrics)

    def _window_tables(self) -> list[WindowTable]:
        return [table for table in self.tables.values() if isinstance(table, WindowTable)]

    async def on_shutdown(self) -> None:
        """Last of all: agents have drained, nothing writes any more."""
        await super().on_shutdown()
        for table in self._window_tables():
            table.rows.close()


def faust_options(settings: Settings) -> dict[str, Any]:
    """Our settings as Faust's, with what must not be left to its defaults."""
    worker, kafka = settings.worker, settings.kafka
    url = worker.advertised_url or f"http://{worker.host}:{worker.port}"
    return {
        "id": worker.group,
        "broker": ";".join(f"kafka://{server.strip()}" for server in kafka.bootstrap.split(",")),
        # Faust's own store of each table stays empty: rows are in ours (settings.store).
        "store": "memory://",
        "table_standby_replicas": settings.store.standby_replicas,
        "datadir": str(worker.data_dir),
        "canonical_url": url,
        "web_host": worker.host,
        "web_port": worker.port,
        "web_enabled": False,
        # Found agents would be started twice: ours are registered by name.
        "autodiscover": False,
        "topic_partitions": kafka.partitions,
        "topic_replication_factor": kafka.replication,
        # Topics are made from one table of names (streams.topics); only changelogs are Faust's to declare.
        "consumer_auto_offset_reset": "earliest",
        "broker_commit_interval": COMMIT_INTERVAL_S,
        "broker_session_timeout": worker.session_timeout_s,
        "broker_heartbeat_interval": worker.session_timeout_s / 3,
        "broker_rebalance_timeout": max(REBALANCE_S, worker.session_timeout_s),
        # The runner waits for its own flushes; Faust's wait would hold a rebalance up for ever while a server is away.
        "stream_wait_empty": False,
        # Row positions make state exact on every broker; Faust's transactions lose and repeat (docs/decisions).
        "processing_guarantee": "at_least_once",
        "producer_acks": -1,
    }


def end_process(what: str, cause: BaseException) -> None:
    """End this process at once, with status 1: what it holds in memory can no longer be trusted.

    Safe at any moment, as SIGKILL is: only what is durable counts, and whoever supervises starts it again.
    """
    get_logger(__name__).critical(what, error=str(cause), exc_info=cause)
    _exit(1)


def _exit(status: int) -> NoReturn:
    logging.shutdown()
    os._exit(status)
