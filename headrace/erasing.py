"""An erasure of a tenant, place by place.

Steps; each may be repeated, and a run after a kill goes on with the erasure that was begun:

1. audit    who, when and why; it names the erasure.
2. holds    nothing more is published of what waits in the outbox for the tenant.
3. letters  of PostgreSQL, so that none is sent again; then holds once more: a row may have been armed again meanwhile.
4. entries  of the Redis streams, and those that wait for the tenant's quota.
5. tables   every owner erases its rows, and the records that wait for a retry; from here on nothing older comes back.
6. letters  once more: a worker may have buried older records of the tenant until then.
7. archives file by file.
8. audit    done.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import ArchiveError, QueryError
from contracts.names import Stream, Topic, kafka_topic, topic_of
from headrace.erase_tables import EraseTables
from streams import archive_erasure, erasure
from streams.archive import Archive
from streams.kafka_admin import Admin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.archive_erasure import Cleaned
    from streams.postgres import Connection
    from streams.redis_log import RedisLog

# What a tenant's events, and what was made of them, are in.
LOGS = (*(topic_of(stream) for stream in Stream), Topic.PUSH, Topic.PUSH_LATEST, Topic.LATE, Topic.ALERTS)


class Found(NamedTuple):
    """What one place holds of a tenant, or what was erased there."""

    place: str
    amount: int
    unit: str


@dataclass(frozen=True)
class Erasure:
    """One tenant, and all that is needed to erase it."""

    settings: Settings
    clock: Clock
    connection: Connection
    redis: RedisLog
    tenant: str
    archives: Sequence[Path]

    async def looked(self) -> list[Found]:
        """What there is now; nothing is changed. Raises ServerMissing, ArchiveError."""
        tables = await EraseTables(self.settings, self.clock).count(self.tenant, f"count-{self.clock.wall_s():.6f}")
        found = [
            Found("outbox", await erasure.holds(self.connection, self.tenant), "rows on hold"),
            Found("Redis", await erasure.entries(self.redis, self.settings.prefix, self.tenant), "entries"),
            Found("dead letters", await erasure.letters(self.connection, self.tenant), "letters"),
            *(Found(f"table {name}", count, "rows") for name, count in sorted(tables.items())),
        ]
        for folder in self.archives:
            cleaned = await _in_archive(archive_erasure.count, folder, self.tenant)
            found.append(Found(f"archive {folder}", cleaned.records, f"records in {cleaned.files} files"))
        return found

    async def unfinished(self) -> str | None:
        """The erasure of this tenant that was begun and not ended."""
        return await erasure.unfinished(self.connection, self.tenant)

    async def run(self, *, why: str, by: str, told: Callable[[Found], None], progress: Callable[[str], None]) -> None:
        """Do all steps, or what is left of them; the caller holds the archives against other writers.

        Raises ServerMissing, ArchiveError; the same call goes on.
        """
        connection, tenant = self.connection, self.tenant
        job = await self.unfinished() or await erasure.begin(connection, tenant, why=why, by=by)  # 1
        held = await erasure.release_holds(connection, tenant)  # 2
        letters = await erasure.erase_letters(connection, tenant, why=why, by=by)  # 3
        held += await erasure.release_holds(connection, tenant)
        told(Found("outbox", held, "rows on hold, marked as processed"))
        told(Found("Redis", await erasure.erase_entries(self.redis, self.settings.prefix, tenant), "entries"))  # 4
        tables = await EraseTables(self.settings, self.clock).erase(
            tenant, job, lambda done, of: progress(f"{done} of {of} partitions")
        )  # 5
        letters += await erasure.erase_letters(connection, tenant, why=why, by=by)  # 6
        told(Found("dead letters", letters, "letters"))
        for name, count in sorted(tables.items()):
            told(Found(f"table {name}", count, "rows"))
        for folder in self.archives:
            cleaned = await _in_archive(archive_erasure.erase, folder, tenant)  # 7
            told(Found(f"archive {folder}", cleaned.records, f"records, {cleaned.files} files written anew"))
        await erasure.end(connection, tenant, why=why, by=by)  # 8

    async def retentions(self) -> dict[str, int]:
        """How long each log keeps what it has, by topic, in ms; -1: for ever."""
        names = [kafka_topic(self.settings.prefix, topic) for topic in LOGS]
        admin = Admin(self.settings.kafka)
        await admin.start()
        try:
            configs = await admin.configs(names)
        finally:
            await admin.stop()
        return {name: int(config["retention.ms"]) for name, config in configs.items() if "retention.ms" in config}


async def _in_archive(work: Callable[[Archive, str], Cleaned], folder: Path, tenant: str) -> Cleaned:
    try:
        return await asyncio.to_thread(work, Archive(folder), tenant)
    except OSError as error:  # whoever called takes one for PostgreSQL's
        reason = f"{error.filename or folder}: {error.strerror or error}"
        raise ArchiveError(f"archive: {reason}; mend that, and the same command goes on") from error


def refuse_unknown(tenant: str, found: Sequence[Found]) -> None:
    """Raise QueryError when nothing at all is known of a tenant: a slip of the pen is not to look like success."""
    if not any(each.amount for each in found):
        raise QueryError("tenant", "must be one that something is kept of; nothing is, in any place looked at", tenant)


def remains(retentions: Mapping[str, int], archives: Sequence[Path]) -> list[str]:
    """What no erasure here reaches, and until when: one line each. Pure."""
    lines = []
    for name, kept_ms in retentions.items():
        until = "for ever: its retention.ms is -1" if kept_ms < 0 else f"until each record is {lasting(kept_ms)} old"
        lines.append(f"Kafka topic {name} keeps its records {until}")
    lines += [
        "Kafka's retry topics keep letters that were sent again, and changelogs keep old versions until compaction",
        "a mark in each table keeps the tenant's id and when it was erased, so that nothing older comes back",
        "the audits keep who moved what and why, without contents",
        "the outbox is the product's own: its rows are as they were",
        "backups of PostgreSQL, Redis and Kafka, and whatever clients have received",
        "gateways hold the last messages in memory for a while and then drop them",
    ]
    if not archives:
        lines.append("archives were not looked at: give each folder with --archive")
    return lines


def lasting(span_ms: int) -> str:
    """A span in days or hours, as people say it."""
    hours = span_ms / 3_600_000
    return f"{hours / 24:g} days" if hours >= 48 and hours % 24 == 0 else f"{hours:g} hours"  # noqa: PLR2004 - 2 days
