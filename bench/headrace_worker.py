"""The real Headrace worker as a child process, and its rows read off the changelog by a decoder of its own."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.contenders.meter import p95_ms
from bench.recount import RowAnswer, RowKey
from bench.workload import PARTITIONS
from headrace.servers import probes, tansu
from runtime.settings import KafkaSettings
from streams.kafka_log import Cluster, Partition

ROOT = Path(__file__).resolve().parent.parent
TABLE = "tool_latency"
KIND = "tl"
FETCH_WAIT_MS = 20


def command(app: str) -> list[str]:
    """How a worker is started, from the module that has its application."""
    return [sys.executable, "-P", "-m", "faust", "-A", app, "worker", "-l", "info", "--without-web"]


# As it is started in production.
COMMAND = command("headrace.worker")
# The same with notes of what its queries see, in the file that SIGHTINGS names.
WATCHED = command("bench.watched_worker")
SIGHTINGS = "BENCH_SIGHTINGS"


def topic_of(prefix: str) -> str:
    """The tools topic under a prefix of the settings."""
    return f"{prefix}.tools"


@dataclass(frozen=True)
class Worker:
    """Workers of one group; everything that is not named here keeps its default."""

    bootstrap: str
    topic: str
    group: str
    store: str
    embedded: bool
    partitions: int = PARTITIONS

    def environment(self, data_dir: Path) -> dict[str, str]:
        """The settings of one of them, with a free port."""
        port = probes.free_port()
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HEADRACE_PREFIX": self.topic.removesuffix(topic_of("")),
            "HEADRACE_KAFKA__BOOTSTRAP": self.bootstrap,
            "HEADRACE_KAFKA__IDEMPOTENCE": str(not self.embedded).lower(),
            "HEADRACE_KAFKA__FETCH_PAUSE_MS": str(tansu.FETCH_PAUSE_MS if self.embedded else 0),
            "HEADRACE_KAFKA__PARTITIONS": str(self.partitions),
            "HEADRACE_AUTH__SECRET": secrets.token_hex(32),
            "HEADRACE_WORKER__GROUP": self.group,
            "HEADRACE_WORKER__DATA_DIR": str(data_dir),
            "HEADRACE_WORKER__PORT": str(port),
            "HEADRACE_WORKER__ADVERTISED_URL": f"http://{probes.HOST}:{port}",
            "HEADRACE_STORE__KIND": self.store,
            "HEADRACE_LOG__FORMAT": "console",
        }

    @property
    def changelog(self) -> str:
        """The table's changelog topic."""
        return f"{self.group}-{TABLE}-changelog"

    async def rows(self, log_gamma: float) -> list[tuple[RowKey, RowAnswer]]:
        """The newest version of every row on the changelog."""
        newest: dict[bytes, bytes | None] = {}
        places = [Partition(self.changelog, number) for number in range(self.partitions)]
        cluster = Cluster(KafkaSettings(bootstrap=self.bootstrap))
        await cluster.start()
        try:
            ends = await cluster.true_end_offsets(places)
            at = dict.fromkeys(places, 0)
            while behind := {place: offset for place, offset in at.items() if offset < ends[place]}:
                for answer in await cluster.fetch(behind, max_wait_ms=FETCH_WAIT_MS):
                    newest.update((record.key or b"", record.value) for record in answer.records)
                    at[answer.partition] = max(answer.next_offset, answer.begin)
        finally:
            await cluster.stop()
        return list(decoded(newest.items(), log_gamma))


def decoded(changes: Iterable[tuple[bytes, bytes | None]], log_gamma: float) -> Iterator[tuple[RowKey, RowAnswer]]:
    """Rows of tool_latency.

    Key [kind, start ms, tenant, tool, version]; value [format, position, announced, count, errors, sum us, max us,
    histogram as pairs of (gap to the bucket before, count), ...].
    """
    for raw_key, raw in changes:
        kind, *place = msgspec.msgpack.decode(raw_key)
        if kind != KIND or raw is None:
            continue
        start_ms, tenant, tool, _version = place
        _format, _position, _announced, count, errors, _sum, _max, packed, *_more = msgspec.msgpack.decode(raw)
        buckets: dict[int, int] = {}
        bucket = 0
        for gap, number in zip(packed[::2], packed[1::2], strict=True):
            bucket += gap
            buckets[bucket] = number
        yield (tenant, tool, start_ms), RowAnswer(count, errors, p95_ms(buckets, log_gamma))
