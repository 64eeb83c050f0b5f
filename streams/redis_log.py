"""Redis Streams as a log: publish once, read by explicit id, trim, ring a bell.

Stands between `streams.relay` (which publishes) and `streams.mirror` (which reads and trims; its leases are
in `streams.leases`). Keys, drawn once:

    {prefix}:stream:<stream>            the entries of one stream
    {{prefix}:stream:<stream>}:m:<id>   marker: this row was published, and as which entry (same slot)
    {prefix}:doorbell                   channel: the name of a stream whose rows were just committed
    {prefix}:lag                        hash: one field for each process, JSON
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.redis_client import Argument, RedisClient, Subscription

if TYPE_CHECKING:
    from contracts.errors import ServerMissing
    from runtime.settings import RedisSettings

START = "0-0"

# Entries in one script call. Redis answers nobody else meanwhile: 100 take about 1 ms.
CHUNK_ENTRIES = 100
CHUNK_BYTES = 2 * 1024 * 1024

# KEYS: stream, the marker of the entry before ("" for none), a marker for each entry. ARGV: how many fields an entry
# has and their names, then the values of each. An error ends the script, and without the entry before nothing is done:
# so nothing is published behind an entry that failed, and order holds. A repeat is a no-op.
_PUBLISH = """
if KEYS[2] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then
  return redis.error_reply('the entries before were not published')
end
local ids, count = {}, tonumber(ARGV[1])
local fields, at = {}, 1 + count
for i = 1, count do fields[2 * i - 1] = ARGV[1 + i] end
for k = 3, #KEYS do
  local id = redis.call('GET', KEYS[k])
  if id then
    ids[k - 2] = '=' .. id
  else
    for i = 1, count do fields[2 * i] = ARGV[at + i] end
    id = redis.call('XADD', KEYS[1], '*', unpack(fields, 1, 2 * count))
    redis.call('SET', KEYS[k], id)
    ids[k - 2] = '+' .. id
  end
  at = at + count
end
return ids"""
_EXPIRE = "for k = 1, #KEYS do redis.call('EXPIRE', KEYS[k], ARGV[1]) end"
# KEYS: streams. The highest id that each ever gave out; XINFO alone would send whole entries as well.
_LAST_IDS = """
local ids = {}
for k = 1, #KEYS do
  ids[k] = '0-0'
  if redis.call('EXISTS', KEYS[k]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[k])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then ids[k] = info[i + 1] end
    end
  end
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
        self._client = RedisClient(settings, client_name=client_name)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def trust(self, run_id: str) -> None:
        """Talk to the server process with this run id only; "" trusts any. Connections are made anew."""
        await self._client.trust(run_id)

    async def ping(self) -> None:
        """Raise ServerMissing unless Redis answers."""
        await self.call("PING")

    async def run_id(self) -> str:
        """The server's run id: another one after each restart."""
        return await self._client.run_id()

    def missing(self, reason: str, remedy: str) -> ServerMissing:
        """The error that says so of this server."""
        return self._client.missing(reason, remedy)

    async def last_ids(self, streams: Sequence[str]) -> list[str]:
        """The highest entry id that each stream ever gave out, 0-0 for one that was never written."""
        return [_text(last_id) for last_id in await self.script(_LAST_IDS, streams, ())]

    async def publish(self, entries: Sequence[NewEntry]) -> list[Published]:
        """Append what is not there yet, in the given order within each stream; answers in the given order.

        Nothing of a stream is published behind an entry that failed. After an error, call it again with the
        same entries: what was published stays as it was, until `expire_markers` was called for it and the
        time ran out.
        """
        chunks, last_markers = chunked(entries), dict[str, str]()
        calls: list[tuple[list[str], list[Argument]]] = []
        for chunk in chunks:
            first = entries[chunk[0]]
            markers = [_marker(entries[index]) for index in chunk]
            arguments: list[Argument] = [len(first.fields), *first.fields]
            for index in chunk:
                arguments.extend(map(entries[index].fields.__getitem__, first.fields))
            calls.append(([first.stream, last_markers.get(first.stream, ""), *markers], arguments))
            last_markers[first.stream] = markers[-1]
        replies = await self._client.scripts(_PUBLISH, calls) if calls else []
        answers: list[Published | None] = [None] * len(entries)
        for chunk, ids in zip(chunks, replies, strict=True):
            for index, answer in zip(chunk, ids, strict=True):
                answers[index] = Published(answer[1:].decode(), repeat=answer[:1] == b"=")
        return [answer for answer in answers if answer is not None]

    async def wait_for_disk(self, wait_ms: int) -> None:
        """Return once the server's own append-only file has all that was published, on its disk.

        Raises:
            ServerMissing: not within `wait_ms`; or the server keeps no such file, or is older than 7.2.
        """
        # Redis waits for what this connection wrote last, so it writes something.
        _, (on_disk, _) = await self._client.calls([("SET", f"{self._prefix}:disk", ""), ("WAITAOF", 1, 0, wait_ms)])
        if not on_disk:
            remedy = "look at the server's disk, or raise relay.wait_disk_ms"
            raise self._client.missing(f"what was written was not on its disk within {wait_ms} ms", remedy)

    async def expire_markers(self, entries: Sequence[NewEntry], ttl_s: int) -> None:
        """Let the markers of rows that are marked in PostgreSQL go after `ttl_s` seconds."""
        calls = [([_marker(entries[index]) for index in chunk], [ttl_s]) for chunk in chunked(entries)]
        if calls:
            await self._client.scripts(_EXPIRE, calls)

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
    async def doorbell(self) -> AsyncIterator[Subscription]:
        """Listen for `ring` while the body runs, on a connection of its own."""
        async with self._client.subscribed(f"{self._prefix}:doorbell", self._timeout_s) as bell:
            yield bell

    async def write_lag(self, part: str, lag_json: str | bytes) -> None:
        """Publish one process' view of its lag, a JSON object."""
        await self.call("HSET", f"{self._prefix}:lag", part, lag_json)

    async def read_lag(self) -> dict[str, str]:
        """The last lag that each process wrote, JSON by process name."""
        return pairs(await self.call("HGETALL", f"{self._prefix}:lag"))

    async def call(self, *command: Argument) -> Any:  # noqa: ANN401  # a reply fits its command
        """Redis' reply to one command."""
        return await self._client.call(*command)

    async def script(self, text: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        """What a Lua script answers; Redis does all of it, or all up to its first error, in one step."""
        return await self._client.script(text, keys, args)


def chunked(entries: Sequence[NewEntry]) -> list[list[int]]:
    """Indices of `entries` cut into runs for one script call, bounded: each of one stream and one set of fields."""
    chunks: list[list[int]] = []
    open_chunks: dict[str, tuple[list[int], int]] = {}
    for index, entry in enumerate(entries):
        size_bytes = sum(map(len, entry.fields.values()))
        chunk, filled_bytes = open_chunks.get(entry.stream, ([], 0))
        full = not chunk or len(chunk) >= CHUNK_ENTRIES or filled_bytes + size_bytes > CHUNK_BYTES
        if full or entries[chunk[0]].fields.keys() != entry.fields.keys():
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
    """A hash's fields as text; bytes that are no UTF-8 come as escapes, and stop nobody."""
    return {name: value.decode("utf-8", "backslashreplace") for name, value in _fields(answer).items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
