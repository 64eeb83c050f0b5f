"""`python -m bench.recovery`: how long a worker that starts takes until a table of 100,000 rows is its own.

The real worker folds a stream into that many rows and is stopped. Then it is started again with its rows on disk
(rocksdb-checkpoint), without (rocksdb-empty), and with the store in memory (memory). Measured by the worker itself, as
headrace_table_recovery_seconds: from the assignment of its partitions until the table is taken up, which includes
opening files, reading the changelog, applying it, and looking through all rows for windows not yet told.

Prints one JSON object: {"rows", "changelog_records", "results": [{"name", "seconds", "replayed_records"}, …]}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import load
from bench.broker import APACHE, EMBEDDED, Broker, running
from bench.child import Child
from bench.headrace_worker import COMMAND, TABLE, Worker, topic_of
from bench.workload import PARTITIONS, Shape, Workload, start_for
from contracts.errors import ServerMissing
from runtime.settings import KafkaSettings
from streams.kafka_log import Cluster, Partition

ROWS = 100_000
EVENTS_A_ROW = 10
POLL_S = 0.2
# Windows close, and their rows are written once more, after the last event.
CLOSING_S = 8.0
LIMIT_S = 300.0
LOG_GAMMA = 0.02  # for reading the rows' histograms, which nobody looks at here


@dataclass(frozen=True)
class Recovery:
    """One start of the worker."""

    name: str
    seconds: float
    replayed_records: int


@dataclass(frozen=True)
class Case:
    """A start: which store, and whether what it had on disk is still there."""

    name: str
    store: str
    keeps_disk: bool


CASES = (
    Case("rocksdb-checkpoint", "rocksdb", keeps_disk=True),
    Case("rocksdb-empty", "rocksdb", keeps_disk=False),
    Case("memory", "memory", keeps_disk=False),
)


async def recovery(broker: Broker, rows: int) -> dict[str, object]:
    """Fold a stream into about `rows` rows, then measure each case."""
    shape = Shape(events_per_s=Shape().keys * EVENTS_A_ROW // 10)
    workload = Workload(rows * EVENTS_A_ROW, start_for(rows * EVENTS_A_ROW, shape, int(time.time() * 1000)), shape)
    topic, data_dir = topic_of("bench-recovery"), broker.folder / "worker"
    await load.load(broker.bootstrap, topic, workload)
    worker = Worker(broker.bootstrap, topic, "bench-recovery", "rocksdb", broker.embedded)
    async with _started(worker, data_dir, broker.folder / "fill") as (_, child):
        await child.outlive(_folded(worker, workload.total))
    results = []
    for case in CASES:
        if not case.keeps_disk:
            shutil.rmtree(data_dir)
        now = Worker(broker.bootstrap, topic, worker.group, case.store, broker.embedded)
        async with _started(now, data_dir, broker.folder / case.name) as (port, _):
            results.append(await _measured(case.name, port))
    records = sum((await _ends(worker)).values())
    found = len(await worker.rows(LOG_GAMMA))
    return {"rows": found, "changelog_records": records, "results": [asdict(result) for result in results]}


class _started:  # noqa: N801 - read as a function
    """The worker while the body runs; its port and process."""

    def __init__(self, worker: Worker, data_dir: Path, folder: Path) -> None:
        environment = worker.environment(data_dir)
        self._port = int(environment["HEADRACE_WORKER__PORT"])
        self._child = Child(COMMAND, environment, folder)

    async def __aenter__(self) -> tuple[int, Child]:
        return self._port, self._child

    async def __aexit__(self, *_error: object) -> None:
        await self._child.end()


async def _folded(worker: Worker, total: int) -> None:
    """Wait until all is folded and committed, and the windows are closed."""
    cluster = Cluster(KafkaSettings(bootstrap=worker.bootstrap))
    await cluster.start()
    places = [Partition(worker.topic, number) for number in range(PARTITIONS)]
    try:
        async with asyncio.timeout(LIMIT_S):
            while sum((await cluster.committed(worker.group, places)).values()) < total:  # noqa: ASYNC110 - a server
                await asyncio.sleep(POLL_S)
    finally:
        await cluster.stop()
    await asyncio.sleep(CLOSING_S)


async def _ends(worker: Worker) -> dict[Partition, int]:
    cluster = Cluster(KafkaSettings(bootstrap=worker.bootstrap))
    await cluster.start()
    try:
        return await cluster.true_end_offsets(Partition(worker.changelog, number) for number in range(PARTITIONS))
    finally:
        await cluster.stop()


async def _measured(name: str, port: int) -> Recovery:
    async with asyncio.timeout(LIMIT_S):
        while True:
            text = await asyncio.to_thread(_metrics, port)
            seconds = _value(text, "headrace_table_recovery_seconds")
            if seconds is not None:
                replayed = _value(text, "headrace_table_replayed_records_total") or 0
                return Recovery(name, round(seconds, 3), int(replayed))
            await asyncio.sleep(POLL_S)


def _metrics(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def _value(text: str, metric: str) -> float | None:
    found = re.search(rf'^{metric}{{[^}}]*table="{TABLE}"[^}}]*}} (\S+)$', text, re.MULTILINE)
    return None if found is None else float(found[1])


async def _main(options: argparse.Namespace) -> None:
    async with running(options.kafka) as broker:
        print(json.dumps(await recovery(broker, options.rows)), flush=True)
    shutil.rmtree(broker.folder)


def main() -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help=f"about so many table rows, default {ROWS:,}")
    parser.add_argument("--kafka", default=EMBEDDED, help=f"{EMBEDDED} (default), {APACHE}, or host:port")
    try:
        asyncio.run(_main(parser.parse_args()))
    except ServerMissing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
