"""`headrace migrate`: bring our own schema to this version's form, one transaction a step, forward only.

The steps are plain SQL in `streams/migrations/`. The outbox is not ours and is never touched. Two that
migrate at the same moment wait for each other on an advisory lock.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.errors import ServerMissing
from runtime.logs import get_logger
from streams import postgres

if TYPE_CHECKING:
    from runtime.settings import PostgresSettings
    from streams.postgres import Connection

log = get_logger(__name__)

# Any number that no other program on this database is likely to use: "headrace" in ASCII, as a signed 64-bit
# integer.
ADVISORY_LOCK = int.from_bytes(b"headrace", "big", signed=True)


@dataclass(frozen=True, order=True)
class Migration:
    """One step: its version (1, 2, ... without gaps), its name and its SQL."""

    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All steps in order, from `streams/migrations/<version>_<name>.sql`.

    Raises:
        ValueError: a version is missing or there twice; an installation is broken.
    """
    found = []
    for file in importlib.resources.files("streams.migrations").iterdir():
        stem, dot, suffix = file.name.rpartition(".")
        if dot and suffix == "sql":
            number, _, name = stem.partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    found.sort()
    if [step.version for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"versions of streams/migrations have a gap: {[step.version for step in found]}")
    return found


async def migrate(settings: PostgresSettings) -> list[Migration]:
    """Apply what is not applied yet, and return it. Nothing to do: the schema is current, or newer than we are.

    Raises:
        ServerMissing: PostgreSQL does not answer, or refuses (the role needs CREATE on the database). The
            steps before the failing one stay applied.
    """
    applied = []
    connection = await postgres.connect(settings, name="headrace-migrate")
    try:
        with postgres.translated(settings):
            for step in migrations():
                if await _apply(connection, step):
                    log.info("migration applied", version=step.version, name=step.name)
                    applied.append(step)
    finally:
        await postgres.close(connection)
    return applied


async def current_version(connection: Connection) -> int:
    """The highest step that was applied; 0 when there is no schema yet."""
    if await connection.fetchval("SELECT to_regclass('headrace.schema_version')") is None:
        return 0
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM headrace.schema_version"))


async def check(connection: Connection, settings: PostgresSettings) -> None:
    """Raise ServerMissing unless the schema is at least as new as this build; a newer one only adds to it."""
    with postgres.translated(settings):
        version = await current_version(connection)
    wanted = migrations()[-1].version
    if version < wanted:
        reason = f"schema headrace is at version {version}, this build needs {wanted}"
        raise ServerMissing("PostgreSQL", settings.url, reason, "run `headrace migrate`")


async def _apply(connection: Connection, step: Migration) -> bool:
    async with connection.transaction():
        # The wait for another migration is its own, not a row lock's.
        await connection.execute("SET LOCAL lock_timeout = '60s'")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        # Read under the lock: the other one may just have done this step.
        if await current_version(connection) >= step.version:
            return False
        await connection.execute(step.sql)
        return True
