"""What every process' policies do now, in one place, and what operators told them to do.

Each process writes its state once a second, so that any gateway can show all of them (/v1/reliability), and reads the
modes that operators set for breakers by name. While Redis is away, states grow old and modes stay as they are.

    {<prefix>:reliability}:states   hash: process -> JSON, see reliability.registry
    {<prefix>:reliability}:modes    hash: breaker -> forced_open | disabled | metrics_only
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

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


class ReliabilityBoard:
    """States and modes of one deployment. Each method waits and fails as those of `RedisLog` do."""

    def __init__(self, redis: RedisLog, prefix: str, clock: Clock) -> None:
        self._redis = redis
        self._states = f"{{{prefix}:reliability}}:states"
        self._modes = f"{{{prefix}:reliability}}:modes"
        self._clock = clock

    async def write(self, process: str, state: dict[str, Any]) -> None:
        """Put a process' state in the place of its last one."""
        await self._redis.call("HSET", self._states, process, json.dumps(state))

    async def remove(self, process: str) -> None:
        """Forget a process that ends."""
        await self._redis.call("HDEL", self._states, process)

    async def read(self) -> list[dict[str, Any]]:
        """The states of all processes by name, each with its age `age_s`; `stale` ones have not written for STALE_S."""
        now_s, found = self._clock.wall_s(), []
        for process, text in sorted((await self._written()).items()):
            age_s = now_s - _at_s(text)
            if age_s > _FORGOTTEN_S:
                await self.remove(process)
                continue
            found.append({**json.loads(text), "age_s": round(max(0.0, age_s), 1), "stale": age_s > STALE_S})
        return found

    async def modes(self) -> dict[str, Mode]:
        """What operators set; a mode that this build does not know is passed over."""
        known = {mode.value: mode for mode in Mode}
        set_ = pairs(await self._redis.call("HGETALL", self._modes))
        return {name: known[word] for name, word in set_.items() if word in known}

    async def set_mode(self, breaker: str, mode: Mode | None) -> None:
        """Set an operator's mode for all breakers of this name; None leaves them to their settings again."""
        if mode is None:
            await self._redis.call("HDEL", self._modes, breaker)
        else:
            await self._redis.call("HSET", self._modes, breaker, mode.value)

    async def _written(self) -> dict[str, str]:
        return pairs(await self._redis.call("HGETALL", self._states))


class ReliabilityReport:
    """Writes one process' state and takes up operators' modes; the process' name is `reliability.process`."""

    def __init__(self, board: ReliabilityBoard, reliability: Reliability) -> None:
        self._board = board
        self._reliability = reliability
        self._silent = False

    async def run(self) -> None:
        """Write and read once a second; ends by cancellation only, and then takes its state away."""
        try:
            while True:
                await self._round()
                await asyncio.sleep(EVERY_S)
        finally:
            await self._leave()

    async def _round(self) -> None:
        try:
            self._reliability.override(await self._board.modes())
            await self._board.write(self._reliability.process, self._reliability.as_json())
            self._silent = False
        except ServerMissing as error:
            if not self._silent:
                _log.warning("state of breakers not told", error=str(error))
            self._silent = True

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
