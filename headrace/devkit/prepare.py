"""What has to be there before the processes start: the outbox, our schema, the sample shop's tables, the topics."""

from __future__ import annotations

import asyncio
import importlib.resources

from headrace.console import Console
from runtime.settings import Settings
from streams import migrate, postgres, topics
from streams.kafka_log import Cluster


async def everything(settings: Settings, console: Console) -> None:
    """Make what is missing; what is there already stays as it is.

    Raises:
        ServerMissing: PostgreSQL or Kafka does not answer, or refuses.
    """
    with console.step("tables and topics") as step:
        made, created = await asyncio.gather(_tables(settings), _topics(settings))
        step.detail = ", ".join([*made, f"{created} topics made" if created else "topics are there"])


async def _tables(settings: Settings) -> list[str]:
    connection = await postgres.connect(settings.postgres, name="headrace-dev")
    try:
        with postgres.translated(settings.postgres):
            missing = await connection.fetchval("SELECT to_regclass('outbox') IS NULL")
            if missing:
                await connection.execute(importlib.resources.files("streams").joinpath("outbox.sql").read_text())
            await connection.execute(importlib.resources.files("headrace.devkit").joinpath("shop.sql").read_text())
    finally:
        await postgres.close(connection)
    applied = await migrate.migrate(settings.postgres)
    return [
        "outbox made" if missing else "outbox is there",
        f"{len(applied)} migrations applied" if applied else "schema is current",
    ]


async def _topics(settings: Settings) -> int:
    cluster = Cluster(settings.kafka)
    try:
        await cluster.start()
        return len(await topics.ensure(cluster, settings))
    finally:
        await cluster.stop()
