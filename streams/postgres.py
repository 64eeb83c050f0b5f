"""Connections to PostgreSQL (>= 13). The only importer of asyncpg.

A failure of the server, whatever asyncpg calls it, becomes ServerMissing: nothing that Headrace sends
depends on what an event holds, so an error is never the event's fault. Callers close a connection on which
something failed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from contracts.errors import ServerMissing

if TYPE_CHECKING:
    from runtime.settings import PostgresSettings

# asyncpg's own types, named here so that no other module imports it.
Connection: TypeAlias = asyncpg.Connection
Pool: TypeAlias = asyncpg.Pool
Row: TypeAlias = asyncpg.Record

# A statement of ours touches some thousand rows at most. A server that takes longer is as good as gone.
COMMAND_TIMEOUT_S = 15.0
# A connection that failed is not worth a longer goodbye.
_CLOSE_TIMEOUT_S = 1.0


async def connect(settings: PostgresSettings, *, name: str, durable: bool = True) -> Connection:
    """A connection, visible to operators as `name`. Waits at most `postgres.connect_timeout_s`.

    Args:
        settings: where, and the timeouts of the session.
        name: application_name.
        durable: False: a commit does not wait for the disk (synchronous_commit=off). Right only for changes
        that are
            repeated without harm when a crash of the server takes the last of them back.

    Raises:
        ServerMissing: nobody answers, or refuses us.
    """
    with translated(settings):
        return await asyncpg.connect(settings.url, **_options(settings, name, durable=durable))


@asynccontextmanager
async def pool(settings: PostgresSettings, *, name: str, size: int) -> AsyncIterator[Pool]:
    """Up to `size` connections, opened when first needed and closed at the end."""
    opened = asyncpg.create_pool(settings.url, min_size=0, max_size=size, **_options(settings, name, durable=True))
    with translated(settings):
        await opened
    try:
        yield opened
    finally:
        opened.terminate()


async def close(connection: Connection) -> None:
    """Say goodbye if the server still listens, else just hang up."""
    try:
        await connection.close(timeout=_CLOSE_TIMEOUT_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        connection.terminate()


@contextmanager
def translated(settings: PostgresSettings) -> Iterator[None]:
    """Turn what asyncpg raises in the body into ServerMissing."""
    try:
        yield
    except asyncpg.DataError:
        raise  # a value that its column or parameter cannot take is a mistake of ours: waiting would hide it
    except asyncpg.UndefinedTableError as error:
        raise _missing(settings, error, "`headrace migrate` makes ours; yours is the outbox") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise _missing(settings, error, "grant that right to the role of postgres.url") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        # InternalClientError: a process that was paused finds that the server has ended its transaction meanwhile.
        raise _missing(settings, error, "check postgres.url and the server's log") from error


def _missing(settings: PostgresSettings, error: Exception, remedy: str) -> ServerMissing:
    return ServerMissing("PostgreSQL", settings.url, str(error) or type(error).__name__, remedy)


def _options(settings: PostgresSettings, name: str, *, durable: bool) -> dict[str, Any]:
    return {
        "timeout": settings.connect_timeout_s,
        "command_timeout": COMMAND_TIMEOUT_S,
        "server_settings": {
            "application_name": name,
            "lock_timeout": str(round(1000 * settings.lock_timeout_s)),
            "idle_in_transaction_session_timeout": str(round(1000 * settings.idle_in_transaction_timeout_s)),
            # A peer that vanished without a word is noticed after 5 + 3 * 2 s; its locks go with it.
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
            "jit": "off",
            "synchronous_commit": "on" if durable else "off",
        },
    }
