"""The one broker of a run: embedded, a real Apache Kafka (`make kafka` first), or one that is given."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.environments import HOME
from headrace import embedded
from headrace.embedded import Source

EMBEDDED, APACHE = "embedded", "apache"
SOURCES: dict[str, Source] = {EMBEDDED: "embedded", APACHE: "system"}


@dataclass(frozen=True)
class Broker:
    """Where it is, what it is, and a folder for what the run writes."""

    bootstrap: str
    describe: str
    embedded: bool
    folder: Path


@asynccontextmanager
async def running(kafka: str) -> AsyncIterator[Broker]:
    """The broker while the body runs; `kafka` is "embedded", "apache" or host:port.

    The run's folder stays under .bench/ when the body fails, so that logs can be read.

    Raises:
        ServerMissing: it did not start.
    """
    HOME.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=HOME))
    if kafka not in SOURCES:
        yield Broker(kafka, f"the broker at {kafka}", embedded=False, folder=folder)
        return
    servers = await embedded.start(folder / "servers", {"kafka": SOURCES[kafka]})
    child = servers.children["kafka"]
    try:
        yield Broker(servers.url("kafka"), child.program.server, kafka == EMBEDDED, folder)
    finally:
        await servers.stop(deadline_s=10)
