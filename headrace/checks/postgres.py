"""PostgreSQL: version, rights, the outbox table as the relay needs it, our schema, the clock. Reads only."""

from __future__ import annotations

from headrace.checks.finding import Notebook
from runtime.clock import Clock
from runtime.settings import PostgresSettings
from streams import letter_rows, migrate, postgres
from streams.dead_letters import LetterState
from streams.letter_filter import LetterFilter
from streams.postgres import Connection

OLDEST_VERSION_NUM = 130_000
# What the relay reads and writes; the product may have further columns.
COLUMNS = {
    "id": ("integer", "bigint"),
    "aggregate_id": ("character varying", "text"),
    "aggregate_type": ("character varying", "text"),
    "event_type": ("character varying", "text"),
    "payload": ("json", "jsonb"),
    "processed": ("boolean",),
    "processed_at": ("timestamp with time zone", "timestamp without time zone"),
    "retry_count": ("integer", "bigint", "smallint"),
    "created_at": ("timestamp with time zone", "timestamp without time zone"),
    "updated_at": ("timestamp with time zone", "timestamp without time zone"),
}
# Below this many rows a scan of the whole table costs a few milliseconds.
INDEX_FROM_ROWS = 100_000
INDEX = "CREATE INDEX CONCURRENTLY outbox_unprocessed ON outbox (id) WHERE processed IS NOT TRUE"


async def examine(settings: PostgresSettings, notes: Notebook, clock: Clock) -> None:
    """Ask everything over one connection.

    Raises:
        ServerMissing: it does not answer, or the connection broke.
    """
    connection = await postgres.connect(settings, name="headrace-doctor")
    try:
        with postgres.translated(settings):
            await _server(connection, notes, clock)
            if await connection.fetchval("SELECT to_regclass('outbox') IS NULL"):
                notes.fail(
                    "outbox", "there is no table outbox on the search path", "let the ordering product migrate first"
                )
            else:
                await _outbox(connection, notes)
            await _schema(connection, notes)
    finally:
        await postgres.close(connection)


async def _server(connection: Connection, notes: Notebook, clock: Clock) -> None:
    version = await connection.fetchval("SHOW server_version")
    number = int(await connection.fetchval("SHOW server_version_num"))
    notes.judge(
        "version", good=number >= OLDEST_VERSION_NUM, found=str(version), remedy="Headrace needs PostgreSQL 13 or newer"
    )
    before_s = clock.wall_s()
    server_s = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    notes.skew(server_s, before_s, clock.wall_s())


async def _outbox(connection: Connection, notes: Notebook) -> None:
    rows = await connection.fetch(
        "SELECT a.attname, format_type(a.atttypid, NULL) AS type FROM pg_attribute a"
        " WHERE a.attrelid = to_regclass('outbox') AND a.attnum > 0 AND NOT a.attisdropped"
    )
    wrong = column_faults({row["attname"]: row["type"] for row in rows})
    notes.judge(
        "outbox columns",
        good=not wrong,
        found="; ".join(wrong) or f"all {len(COLUMNS)} as needed",
        remedy="compare with streams/outbox.sql; Headrace never alters the outbox",
    )
    lacking = [
        right
        for right in ("SELECT", "UPDATE")
        if not await connection.fetchval("SELECT has_table_privilege(to_regclass('outbox')::oid, $1)", right)
    ]
    role = await connection.fetchval("SELECT current_user")
    notes.judge(
        "outbox rights",
        good=not lacking,
        found=f"role {role} lacks {' and '.join(lacking)}" if lacking else f"role {role} may select and update",
        remedy=f"GRANT SELECT, UPDATE ON outbox TO {role}",
    )
    if not lacking:
        await _backlog(connection, notes)


async def _backlog(connection: Connection, notes: Notebook) -> None:
    rows = int(
        await connection.fetchval(
            "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass('outbox')"
        )
    )
    partial = await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_index WHERE indrelid = to_regclass('outbox')"
        " AND pg_get_expr(indpred, indrelid) ILIKE '%processed%'"
    )
    if rows >= INDEX_FROM_ROWS and not partial:
        notes.warn("outbox index", f"about {rows:,} rows and no index on the unprocessed ones", INDEX)
    else:
        notes.ok(
            "outbox index", "an index on the unprocessed rows" if partial else f"not needed for about {rows:,} rows"
        )


async def _schema(connection: Connection, notes: Notebook) -> None:
    version, wanted = await migrate.current_version(connection), migrate.migrations()[-1].version
    notes.judge(
        "schema headrace",
        good=version >= wanted,
        found=f"version {version}, needed {wanted}",
        remedy="run `headrace migrate` (needs CREATE on the database)",
    )
    if version >= wanted:
        await _letters(connection, notes)


async def _letters(connection: Connection, notes: Notebook) -> None:
    groups = await letter_rows.summary(connection, LetterFilter(states=(LetterState.DEAD, LetterState.REQUEUED)))
    dead, out = (
        sum(group.letters for group in groups if group.state is state)
        for state in (LetterState.DEAD, LetterState.REQUEUED)
    )
    found = f"{dead:,} dead, {out:,} requeued"
    if out and not await letter_rows.requeuer_runs(connection):
        notes.warn("dead letters", f"{found}; nobody sends them", "start a control process (`headrace control`)")
    elif dead:
        notes.warn("dead letters", found, "`headrace dead-letters list --count`; docs/playbooks/dead-letters.md")
    else:
        notes.ok("dead letters", found)


def column_faults(found: dict[str, str]) -> list[str]:
    """What is wrong with the outbox's columns, by name and type; empty when the relay can work with them."""
    faults = []
    for name, allowed in COLUMNS.items():
        if name not in found:
            faults.append(f"{name} is missing")
        elif found[name] not in allowed:
            faults.append(f"{name} is {found[name]}, not {' or '.join(allowed)}")
    return faults
