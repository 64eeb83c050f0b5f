from __future__ import annotations

import asyncio

import asyncpg
import pytest

from contracts.errors import ServerMissing
from runtime.settings import Settings
from streams import migrate, postgres
from tests.support.aio import run

OUTBOX_COLUMNS = """SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_name = 'outbox' ORDER BY ordinal_position"""


async def without_schema(settings: Settings) -> asyncpg.Connection:
    connection = await asyncpg.connect(settings.postgres.url)
    await connection.execute("DROP SCHEMA headrace CASCADE")
    return connection


def test_the_first_run_makes_everything_and_the_second_nothing(settings: Settings):
    async def main() -> None:
        connection = await without_schema(settings)
        try:
            before = await connection.fetch(OUTBOX_COLUMNS)
            assert await migrate.migrate(settings.postgres) == migrate.migrations()
            assert await migrate.migrate(settings.postgres) == []
            assert await connection.fetchval("SELECT count(*) FROM headrace.shard") == 64
            assert await connection.fetch(OUTBOX_COLUMNS) == before
        finally:
            await connection.close()

    run(main())


def test_runs_at_the_same_moment_apply_each_step_once(settings: Settings):
    async def main() -> None:
        await (await without_schema(settings)).close()
        applied = await asyncio.gather(*(migrate.migrate(settings.postgres) for _ in range(5)))
        assert sorted(step for steps in applied for step in steps) == migrate.migrations()

    run(main())


def test_a_schema_that_is_too_old_is_told_with_its_remedy(settings: Settings):
    async def main() -> None:
        await (await without_schema(settings)).close()
        connection = await postgres.connect(settings.postgres, name="test")
        try:
            with pytest.raises(ServerMissing, match="run `headrace migrate`"):
                await migrate.check(connection, settings.postgres)
            await migrate.migrate(settings.postgres)
            await migrate.check(connection, settings.postgres)
        finally:
            await postgres.close(connection)

    run(main())


def test_a_role_without_rights_is_told_which(settings: Settings):
    async def main() -> None:
        connection = await without_schema(settings)
        role = f"{settings.prefix}_poor"
        try:
            await connection.execute(f"CREATE ROLE {role} LOGIN")
            url = settings.postgres.url.replace("postgres@", f"{role}@", 1)
            with pytest.raises(ServerMissing, match="permission denied"):
                await migrate.migrate(settings.postgres.model_copy(update={"url": url}))
        finally:
            await connection.execute(f"DROP ROLE {role}")
            await connection.close()

    run(main())
