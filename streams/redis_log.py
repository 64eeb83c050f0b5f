"""Redis Streams as a log: publish once, read by explicit id, trim, ring a bell. The only importer of redis.

Stands between `streams.relay` (which publishes) and `streams.mirror` (which reads and trims; its leases are
in `streams.leases`). Keys, drawn once:

    {prefix}:stream:<stream>            the entries of one stream
    {{prefix}:stream:<stream>}:m:<id>   marker: this row was published, and as which entry (same slot)
    {prefix}:doorbell                   channel: the name of a stream whose rows were just committed
    {prefix}:lag                        hash: one field for each process, JSON

The client never repeats a command by itself: redis-py's default of ten attempts turned one lost reply into
two entries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha1
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from contracts.errors import ServerMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.settings import RedisSettings

START = "0-0"

# Entries in one script call. Redis answers nobody else meanwhile: 100 take about 1 ms.
CHUNK_ENTRIES = 100
CHUNK_BYTES = 2 * 1024 * 1024

# KEYS: stream, then a marker for each entry. ARGV: for each entry the number of its field arguments, then
# these. An error ends the script: nothing is published after an entry that failed, so order holds; a repeat
# is a no-op.
_PUBLISH = """
local ids, at = {}, 1
for k = 2, #KEYS do
  local n = tonumber(ARGV[at])
  local id = redis.call('GET', KEYS[k])
  if id then
    ids[k - 1] = '=' .. id
  else
    id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 1, at + n))
    redis.call('SET', KEYS[k], id)
    ids[k - 1] = '+' .. id
  end
  at = at + 1 + n
end
return ids"""


class NewEntry(NamedTuple):
    """An entry to be published. `dedupe_id` names its row: a second entry for the same row is a no-op."""

    stream: str
    dedupe_id: str
    fields: Mapping[str, str | bytes]


class Published(NamedTuple):
    """Which entry a row became; `repeat`: it already was there."""

    id: str
    repeat: bool


class Entry(NamedTuple):
    """An entry as it stands in the log."""

    id: str
    fields: dict[str, bytes]


class StreamInfo(NamedTuple):
    """A stream's extent. `first_id` is None when it is empty; `last_id` is the highest id ever given out."""

    length: int
    first_id: str | None
    last_id: str


class RedisLog:
    """The streams of one deployment on one Redis (>= 7.0) or Valkey.

    `stream` is always the full key, as `contracts.names.redis_stream` makes it. Each method waits for one
    reply at a time, at most `redis.command_timeout_s`; it raises ServerMissing when Redis is down, slow or
    refuses, and then the command may or may not have been carried out.
    """

    def __init__(self, settings: RedisSettings, prefix: str, *, client_name: str) -> None:
        self._timeout_s = settings.command_timeout_s
        self._prefix = prefix
        self._url = _without_password(settings.url)
        self._client = Redis.from_url(
            settings.url,
            client_name=client_name,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            socket_timeout=settings.command_timeout_s,
            socket_connect_timeout=settings.command_timeout_s,
            socket_keepalive=True,
        )
        self._execute: Callable[..., Awaitable[Any]] = self._client.execute_command

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Raise ServerMissing unless Redis answers."""
        await self.call("PING")

    async def run_id(self) -> str:
        """The server's run id: another one after each restart."""
        with self._translated():
            info: dict[str, Any] = await self._client.info("server")
        return str(info["run_id"])

    async def publish(self, entries: Sequence[NewEntry]) -> list[Published]:
        """Append what is not there yet, in the given order within each stream; answers in the given order.

        Nothing of a stream is published behind an entry that failed. After an error, call it again with the
        same entries: what was published stays as it was, until `expire_markers` was called for it and the
        time ran out.
        """
        answers: list[Published | None] = [None] * len(entries)
        for chunk in chunked(entries):
            first = entries[chunk[0]]
            keys = [first.stream]
            arguments: list[str | bytes | int] = []
            for index in chunk:
                entry = entries[index]
                keys.append(_marker(entry))
                arguments.append(2 * len(entry.fields))
                for name, value in entry.fields.items():
                    arguments += (name, value)
            ids: list[bytes] = await self.script(_PUBLISH, keys, arguments)
            for index, answer in zip(chunk, ids, strict=True):
                answers[index] = Published(answer[1:].decode(), repeat=answer[:1] == b"=")
        return [answer for answer in answers if answer is not None]

    async def expire_markers(self, entries: Sequence[NewEntry], ttl_s: int) -> None:
        """Let the markers of rows that are marked in PostgreSQL go after `ttl_s` seconds."""
        with self._translated():
            pipe = self._client.pipeline(transaction=False)
            for entry in entries:
                pipe.expire(_marker(entry), ttl_s)
            await pipe.execute()

    async def read_after(self, stream: str, after_id: str, count: int, *, block_s: float = 0.0) -> list[Entry]:
        """Up to `count` entries with an id above `after_id`, oldest first.

        Waits up to `block_s` for the first one, at most half of the command timeout, so that an empty stream
        is never taken for a dead server; it holds one connection meanwhile.
        """
        options: list[str | int] = ["COUNT", count]
        if block_s > 0:
            options += ["BLOCK", max(1, int(1000 * min(block_s, self._timeout_s / 2)))]
        answer = await self.call("XREAD", *options, "STREAMS", stream, after_id)
        return _entries(answer[0][1]) if answer else []

    async def read_range(self, stream: str, first_id: str, last_id: str, count: int) -> list[Entry]:
        """Up to `count` entries from `first_id` to `last_id`, both included ("-" and "+" are the ends)."""
        return _entries(await self.call("XRANGE", stream, first_id, last_id, "COUNT", count))

    async def trim_before(self, stream: str, min_id: str) -> int:
        """Remove the entries below `min_id`, save for up to a node's worth; how many went."""
        return int(await self.call("XTRIM", stream, "MINID", "~", min_id))

    async def stream_info(self, stream: str) -> StreamInfo:
        """The stream's extent; a stream that was never written is empty with last id 0-0."""
        if not await self.call("EXISTS", stream):
            return StreamInfo(0, None, START)
        flat = await self.call("XINFO", "STREAM", stream)
        info = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        named = {_text(name).replace("_", "-"): value for name, value in info.items()}
        first = named["first-entry"]
        return StreamInfo(int(named["length"]), _text(first[0]) if first else None, _text(named["last-generated-id"]))

    async def ring(self, stream: str) -> None:
        """Tell the relays that rows for `stream` were committed. Nobody need listen."""
        await self.call("PUBLISH", f"{self._prefix}:doorbell", stream)

    @asynccontextmanager
    async def doorbell(self) -> AsyncIterator[Doorbell]:
        """Listen for `ring` while the body runs, on a connection of its own."""
        pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            with self._translated():
                await pubsub.subscribe(f"{self._prefix}:doorbell")
                # The confirmation, which is passed over: from here on every bell is heard.
                await pubsub.get_message(timeout=self._timeout_s)
            yield Doorbell(self, pubsub)
        finally:
            with self._translated():
                await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis leaves it unannotated

    async def write_lag(self, part: str, lag_json: str | bytes) -> None:
        """Publish one process' view of its lag, a JSON object."""
        await self.call("HSET", f"{self._prefix}:lag", part, lag_json)

    async def read_lag(self) -> dict[str, str]:
        """The last lag that each process wrote, JSON by process name."""
        return pairs(await self.call("HGETALL", f"{self._prefix}:lag"))

    async def call(self, *command: str | bytes | int) -> Any:  # noqa: ANN401  # a reply fits its command
        """Redis' reply to one command."""
        with self._translated():
            return await self._execute(*command)

    async def script(self, text: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:  # noqa: ANN401
        """What a Lua script answers; Redis does all of it, or all up to its first error, in one step."""
        digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
        with self._translated():
            try:
                return await self._execute("EVALSHA", digest, len(keys), *keys, *args)
            except NoScriptError:
                # Redis has restarted, or this is the first call: EVAL carries the text and leaves it there.
                return await self._execute("EVAL", text, len(keys), *keys, *args)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise ServerMissing(
                server="Redis",
                url=self._url,
                reason=str(error) or type(error).__name__,
                remedy="check redis.url",
            ) from error


class Doorbell:
    """A subscription to the doorbell."""

    def __init__(self, log: RedisLog, pubsub: PubSub) -> None:
        self._log = log
        self._pubsub = pubsub

    async def wait(self, timeout_s: float) -> bool:
        """Whether somebody rang within `timeout_s`. Raises ServerMissing when the connection is gone."""
        with self._log._translated():  # noqa: SLF001  # two halves of one module
            return await self._pubsub.get_message(timeout=timeout_s) is not None


def chunked(entries: Sequence[NewEntry]) -> list[list[int]]:
    """Indices of `entries` cut into runs for one script call: one stream each, in order, bounded."""
    chunks: list[list[int]] = []
    open_chunks: dict[str, tuple[list[int], int]] = {}
    for index, entry in enumerate(entries):
        size_bytes = sum(map(len, entry.fields.values()))
        chunk, filled_bytes = open_chunks.get(entry.stream, ([], 0))
        if not chunk or len(chunk) >= CHUNK_ENTRIES or filled_bytes + size_bytes > CHUNK_BYTES:
            chunk, filled_bytes = [], 0
            chunks.append(chunk)
        chunk.append(index)
        open_chunks[entry.stream] = (chunk, filled_bytes + size_bytes)
    return chunks


def _marker(entry: NewEntry) -> str:
    return f"{{{entry.stream}}}:m:{entry.dedupe_id}"


def _entries(answer: list[Any]) -> list[Entry]:
    return [Entry(_text(entry_id), _fields(flat)) for entry_id, flat in answer]


def _fields(flat: list[bytes] | dict[bytes, bytes]) -> dict[str, bytes]:
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    # Anybody may write to a stream: a name that is not UTF-8 must not stop the ones who read it.
    return {name.decode("utf-8", "backslashreplace"): value for name, value in pairs}


def pairs(answer: list[bytes] | dict[bytes, bytes]) -> dict[str, str]:
    """A hash's fields as text."""
    return {name: value.decode() for name, value in _fields(answer).items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
