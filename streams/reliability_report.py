"""What every process' policies do now, in one place, and what operators told them to do.

Each process writes its state once a second, so that any gateway can show all of them (/v1/reliability), and reads the
modes that operators set for breakers by name. Times are of Redis' clock: those of processes do not matter. While Redis
is away, states grow old, and the words heard last hold until they end.

    {<prefix>:reliability}:states   hash: process -> JSON, see reliability.registry
    {<prefix>:reliability}:words    hash: breaker -> JSON of an operator's word
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from contracts.errors import ServerMissing
from reliability.breaker_machine import Mode
from runtime.logs import get_logger
from streams.redis_log import pairs

if TYPE_CHECKING:
    from reliability.registry import Reliability
    from runtime.clock import Clock
    from streams.redis_log import RedisLog

_log = get_logger(__name__)

EVERY_S = 1.0
# Older than this, a state is a memory of a process that is gone or cut off.
STALE_S = 10.0
_FORGOTTEN_S = 3600.0


class Word(NamedTuple):
    """What an operator said of a breaker: the mode that holds until `until_s` (Unix seconds), who said so, and why."""

    mode: Mode
    by: str
    why: str
    until_s: float


class ReliabilityBoard:
    """States and operators' words of one deployment. Each method waits and fails as those of `RedisLog` do."""

    def __init__(self, redis: RedisLog, prefix: str, clock: Clock) -> None:
        self._redis = redis
        self._states = f"{{{prefix}:reliability}}:states"
        self._words = f"{{{prefix}:reliability}}:words"
        self._clock = clock

    async def write(self, process: str, state: dict[str, Any]) -> None:
        """Put a process' state in the place of its last one; `at` becomes now."""
        told = {**state, "at": round(await self._server_s(), 3)}
        await self._redis.call("HSET", self._states, process, json.dumps(told))

    async def remove(self, process: str) -> None:
        """Forget a process that ends."""
        await self._redis.call("HDEL", self._states, process)

    async def read(self) -> list[dict[str, Any]]:
        """The states of all processes by name, each with its age `age_s`; `stale` ones have not written for STALE_S."""
        now_s, found = await self._server_s(), []
        for process, text in sorted((await self._written()).items()):
            age_s = now_s - _at_s(text)
            if age_s > _FORGOTTEN_S:
                await self.remove(process)
                continue
            found.append({**json.loads(text), "age_s": round(max(0.0, age_s), 1), "stale": age_s > STALE_S})
        return found

    async def words(self) -> dict[str, Word]:
        """Operators' words that hold now, by breaker; one that this build does not know is passed over.

        Their ends are moved to this process' clock.
        """
        found = pairs(await self._redis.call("HGETALL", self._words))
        ahead_s = await self._server_s() - self._clock.wall_s()
        words = {name: _word(text, ahead_s) for name, text in found.items()}
        return self.that_hold({name: word for name, word in words.items() if word is not None})

    def that_hold(self, words: dict[str, Word]) -> dict[str, Word]:
        """Those of `words` that have not ended by now."""
        now_s = self._clock.wall_s()
        return {name: word for name, word in words.items() if word.until_s > now_s}

    async def say(self, breaker: str, mode: Mode, *, seconds: float, by: str, why: str) -> None:
        """Set the mode of all breakers of this name for so long; it takes the place of the word before."""
        until_s = await self._server_s() + seconds
        word = {"mode": mode.value, "by": by, "why": why, "until_s": until_s}
        await self._redis.call("HSET", self._words, breaker, json.dumps(word))

    async def unsay(self, breaker: str) -> None:
        """Leave the breakers of this name to their settings again."""
        await self._redis.call("HDEL", self._words, breaker)

    async def as_json(self) -> dict[str, Any]:
        """States and words, for people; times in seconds."""
        now_s = self._clock.wall_s()
        words = {
            name: {"mode": word.mode.value, "by": word.by, "why": word.why, "ends_in_s": round(word.until_s - now_s)}
            for name, word in (await self.words()).items()
        }
        return {"processes": await self.read(), "operators": words}

    async def _server_s(self) -> float:
        seconds, microseconds = await self._redis.call("TIME")
        return int(seconds) + int(microseconds) / 1e6

    async def _written(self) -> dict[str, str]:
        return pairs(await self._redis.call("HGETALL", self._states))


class ReliabilityReport:
    """Writes one process' state and takes up operators' modes; the process' name is `reliability.process`."""

    def __init__(self, board: ReliabilityBoard, reliability: Reliability) -> None:
        self._board = board
        self._reliability = reliability
        self._words: dict[str, Word] = {}
        self._silent = False

    async def run(self) -> None:
        """Write and read once a second; ends by cancellation only, and then takes its state away."""
        try:
            while True:
                await self.round()
                await asyncio.sleep(EVERY_S)
        finally:
            await self._leave()

    async def round(self) -> None:
        """Read and write once; waits for Redis at most four of its command timeouts."""
        try:
            self._words = await self._board.words()
            self._obey()
            await self._board.write(self._reliability.process, self._reliability.as_json())
            self._silent = False
        except ServerMissing as error:
            self._obey()
            if not self._silent:
                _log.warning("state of breakers not told", error=str(error))
            self._silent = True

    def _obey(self) -> None:
        """Take the words heard last that have not ended: one that ends must not wait for Redis."""
        holding = self._board.that_hold(self._words)
        self._reliability.override({name: word.mode for name, word in holding.items()})

    async def _leave(self) -> None:
        try:
            await self._board.remove(self._reliability.process)
        except ServerMissing:
            _log.info("state of breakers left behind; it grows stale")


def _at_s(text: str) -> float:
    """When a state was written, Unix seconds; 0 for one that cannot be read."""
    try:
        return float(json.loads(text)["at"])
    except (ValueError, TypeError, KeyError):
        return 0.0


def _word(text: str, ahead_s: float) -> Word | None:
    try:
        found = json.loads(text)
        return Word(Mode(found["mode"]), str(found["by"]), str(found["why"]), float(found["until_s"]) - ahead_s)
    except (ValueError, TypeError, KeyError):
        return None
