"""The Faust worker: `faust -A headrace.worker worker -l info`, from any folder.

Composition only: settings, clients, agents and tables are built here and handed down. Importing this module reads the
settings and declares agents; it opens no connection. To add an agent, write its file in `agents/` and add one line to
`build`; a table is declared by the agent that fills it.
"""

from __future__ import annotations

import sys

from agents import adapter, audio, backfill, experiments, orders, retrieval, task_bridge, tool_calls
from agents.burial import Burial
from agents.host import AgentHost
from agents.metrics import AgentMetrics
from agents.owned_partition import Sinks
from agents.progress_watch import ProgressMetrics, ProgressWatch
from contracts.errors import SettingsError
from contracts.names import Consumer, Topic, kafka_topic, retry_topic
from headrace import guard
from headrace.table_views import table_views
from headrace.worker_app import HeadraceApp, end_process, faust_options
from headrace.worker_web import WorkerWeb
from reliability.pools.metrics import PoolMetrics
from reliability.registry import Reliability
from runtime.clock import Clock, SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.process import report
from runtime.settings import Settings, load
from streams import batches
from streams.breaker_events import BreakerEvents
from streams.kafka_outlet import Outlet
from streams.reliability_link import link_by_itself, process_name

SOURCES = (Topic.ORDERS, Topic.TOOLS, Topic.RAG, Topic.VOICE, Topic.EXPERIMENTS, Topic.REPLACEMENTS)


def build(settings: Settings, clock: Clock) -> HeadraceApp:
    """The worker's application, not started.

    Raises:
        SettingsError: another package stands in for one of ours, or one is missing.
    """
    guard.own_packages()
    app = HeadraceApp(**faust_options(settings))
    app.settings_in_use = settings
    metrics, health = Metrics(), Health(needs=("reading",))
    topics = {kafka_topic(settings.prefix, topic): True for topic in SOURCES}
    topics |= {retry_topic(settings.prefix, consumer): False for consumer in Consumer}
    batches.install(app, settings.kafka, topics, lambda: health.set_ready("reading", ok=True))
    kafka, burial = Outlet(settings.kafka, clock), Burial(settings.postgres)
    host = AgentHost(app, settings, Sinks(kafka, burial, AgentMetrics(metrics), clock, fatal=end_process))
    orders.register(host)
    tool_calls.register(host)
    audio.register(host)
    retrieval.register(host)
    experiments.register(host)
    reliability, pools = Reliability(settings, process_name("worker"), clock, metrics), PoolMetrics(metrics)
    adapter.register(host, reliability, pools, metrics)
    task_bridge.register(host, reliability, pools)
    backfill.register(host)  # behind all agents that have tables
    views = table_views(app, settings, clock, host.tables)
    app.burial, app.outlet, app.metrics = burial, kafka, metrics
    app.progress = ProgressWatch(
        app, settings, host.waiting, health, ProgressMetrics(metrics), clock, fatal=end_process
    )
    app.web_service = WorkerWeb(settings.worker.host, lambda: app.conf.web_port, health, metrics, views.add_to)
    told = BreakerEvents(settings.prefix, kafka.send_all, reliability, clock)
    app.beside = (app.progress.run, told.run, lambda: link_by_itself(settings, reliability, clock))
    _connect(app, host, health)
    return app


def _connect(app: HeadraceApp, host: AgentHost, health: Health) -> None:
    """What happens at the app's own turns; the order at a stop is: agents drain, web closes, clients close."""

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(*_args: object, **_kwargs: object) -> None:
        health.set_ready("reading", ok=False, detail="a rebalance is under way")

    @app.on_before_shutdown.connect(weak=False)
    async def closed(*_args: object, **_kwargs: object) -> None:
        # One receiver for all of it: Faust calls several in no particular order.
        await host.drain()
        await host.sinks.kafka.stop()
        await host.sinks.burial.stop()


def _load() -> HeadraceApp:
    try:
        return build(load(), SystemClock())
    except SettingsError as error:
        sys.exit(report(error))


app = _load()
