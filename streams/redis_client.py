"""A connection to Redis (>= 7.0) or Valkey. The only importer of redis.

The client never repeats a command by itself: redis-py's default of ten attempts turned one lost reply into two
entries. Commands are packed by hiredis: in Python that alone cost the relay a third of its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha1
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import NoScriptError, RedisError

from contracts.errors import ServerMissing, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runtime.settings import RedisSettings

Argument: TypeAlias = str | bytes | int


class RedisClient:
    """Commands to one server. Each waits at most `redis.command_timeout_s`.

    It raises ServerMissing when Redis is down, slow or refuses, and then the command may or may not have been carried
    out. `trust` makes it talk to one server process only. Raises SettingsError when made for what is no Redis URL.
    """

    def __init__(self, settings: RedisSettings, *, client_name: str) -> None:
        self._url = _without_password(settings.url)
        self._run_id = ""
        secure = urlsplit(settings.url).scheme == "rediss"
        try:
            self._pool = ConnectionPool.from_url(
                settings.url,
                connection_class=_PackedSslConnection if secure else _PackedConnection,
                client_name=client_name,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                retry_on_error=[],
                socket_timeout=settings.command_timeout_s,
                socket_connect_timeout=settings.command_timeout_s,
                socket_keepalive=True,
                redis_connect_func=self._greet,
            )
        except ValueError as error:
            raise SettingsError(f"redis.url: {error} (got {self._url})") from error
        self._client = Redis.from_pool(self._pool)
        self._execute: Callable[..., Awaitable[Any]] = self._client.execute_command

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def trust(self, run_id: str) -> None:
        """From now on refuse to talk to a server process with another run id; "" trusts any.

        The check is part of connecting, so no command ever reaches a server that was exchanged meanwhile.
        """
        self._run_id = run_id
        with self.translated():
            await self._pool.disconnect()

    async def run_id(self) -> str:
        """The server's run id: another one after each restart."""
        with self.translated():
            info: dict[str, Any] = await self._client.info("server")
        return str(info["run_id"])

    async def call(self, *command: Argument) -> Any:  # noqa: ANN401  # a reply fits its command
        """Redis' reply to one command."""
        with self.translated():
            return await self._execute(*command)

    async def calls(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The replies to several commands, sent at once over one connection; one that fails stops none of the rest."""
        with self.translated():
            return await self._sent(commands)

    async def script(self, text: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        """What a Lua script answers; Redis does all of it, or all up to its first error, in one step."""
        digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
        with self.translated():
            try:
                return await self._execute("EVALSHA", digest, len(keys), *keys, *args)
            except NoScriptError:
                # Redis has restarted, or this is the first call: EVAL carries the text and leaves it there.
                return await self._execute("EVAL", text, len(keys), *keys, *args)

    async def scripts(self, text: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]) -> list[Any]:
        """What a Lua script answers to several calls (keys, arguments), sent at once and done in order.

        One that fails stops none of the rest, so a script that must not go on has to find out by itself.
        """
        digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
        commands = [("EVALSHA", digest, len(keys), *keys, *args) for keys, args in calls]
        with self.translated():
            try:
                return await self._sent(commands)
            except NoScriptError:
                await self._execute("SCRIPT LOAD", text)
                return await self._sent(commands)

    @asynccontextmanager
    async def subscribed(self, channel: str, timeout_s: float) -> AsyncIterator[Subscription]:
        """Listen to a channel while the body runs, on a connection of its own; from its begin on nothing is missed."""
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            with self.translated():
                await pubsub.subscribe(channel)
                # The confirmation, which is passed over.
                await pubsub.get_message(timeout=timeout_s)
            yield Subscription(self, pubsub)
        finally:
            with self.translated():
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis leaves it unannotated

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what redis raises in the body into ServerMissing, and bring back a cancellation that it swallowed.

        It sends under asyncio.wait_for, which in Python 3.11 forgets one that comes when all is sent.
        """
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise self.missing(reason, "check redis.url") from error
        if task and task.cancelling() > cancellations:
            raise asyncio.CancelledError

    def missing(self, reason: str, remedy: str) -> ServerMissing:
        """The error that says so of this server."""
        return ServerMissing(server="Redis", url=self._url, reason=reason, remedy=remedy)

    async def _sent(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        if len(commands) == 1:
            return [await self._execute(*commands[0])]
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return list(await pipe.execute())

    async def _greet(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        if self._run_id:
            await connection.send_command("INFO", "server")
            if f"run_id:{self._run_id}".encode() not in await connection.read_response(disable_decoding=True):
                raise NoConnection("another process answers than the one that was asked before")


class Subscription:
    """Messages of a channel."""

    def __init__(self, client: RedisClient, pubsub: PubSub) -> None:
        self._client = client
        self._pubsub = pubsub

    async def wait(self, timeout_s: float) -> bool:
        """Whether a message came within `timeout_s`. Raises ServerMissing when the connection is gone."""
        with self._client.translated():
            return await self._pubsub.get_message(timeout=timeout_s) is not None


class _Ours(AbstractConnection):
    """What ours do differently, whatever they go over."""

    def pack_command(self, *args: Any) -> list[bytes]:  # noqa: ANN401  # whatever redis can encode
        # "CLIENT SETNAME" and the like are written in one; Redis wants a word an argument.
        first = args[0]
        return [hiredis.pack_command((*first.split(), *args[1:]) if isinstance(first, str) else args)]

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        # `trust` closes connections that others use; redis-py looks whether one is open, and sends a turn later.
        if self._writer is None:
            raise NoConnection("the connection was closed meanwhile")
        await super()._send_packed_command(command)


class _PackedConnection(_Ours, Connection):
    pass


class _PackedSslConnection(_Ours, SSLConnection):
    pass


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
