"""The level of degradation in force, agreed on through Redis, and an operator's override.

Where it stands: each process that can be overloaded runs a `Degradation`, which looks at its own signals, climbs or
comes down (`reliability.ladder`), tells the others and hears from them; commands that only have to know the level read
along. Key, a hash on the server's own clock, so that clocks of processes do not matter:

    {prefix}:degradation    process:<name> -> "<ms when said>|<JSON>"     counts for ladder.stale_s
                            override       -> "<ms when it ends>|<JSON>"  wins until then

While Redis is away a process goes by itself: its own level, and the override that it last heard of.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import ServerMissing
from reliability.call import Priority
from reliability.ladder import (
    PASSES,
    Feature,
    LadderRules,
    Level,
    Override,
    Signal,
    Standing,
    allowed,
    in_force,
    moved,
)
from runtime.lag import STALE_S, parse_stage
from runtime.logs import get_logger

if TYPE_CHECKING:
    from reliability.load_metrics import LoadMetrics
    from runtime.clock import Clock
    from runtime.settings import LadderSettings, Settings
    from streams.redis_log import RedisLog

_log = get_logger(__name__)

OVERRIDE = "override"
_PROCESS = "process:"
# What a process that is gone said is kept for people until then, and counts for nobody.
_FORGET_MS = 600_000

# KEYS: the hash. ARGV: field to write ("" for none), its JSON, ms for which a process' word counts, ms until it goes,
# override's field. Answers now (ms), then field, its moment (ms), JSON, for all that count.
_EXCHANGE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[1] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', now) .. '|' .. ARGV[2]) end
local answers, all = {now}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at, said = string.match(all[i + 1], '^(%d+)|(.*)$')
  local age = now - (tonumber(at) or 0)
  local ends = all[i] == ARGV[5]
  if (ends and age >= 0) or (not ends and age > tonumber(ARGV[4])) then
    redis.call('HDEL', KEYS[1], all[i])
  elseif ends or age <= tonumber(ARGV[3]) then
    for _, part in ipairs({all[i], at, said}) do table.insert(answers, part) end
  end
end
return answers"""
# KEYS: the hash. ARGV: override's field, its JSON, ms from now until it ends.
_OVERRIDE = """
local time = redis.call('TIME')
local ends = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', ends) .. '|' .. ARGV[2])
return ends"""


class Heard(NamedTuple):
    """What the hash says: each process' own words by its name, and the override, at `now_s` (Unix seconds)."""

    now_s: float
    processes: Mapping[str, Mapping[str, object]]
    override: Override | None

    @property
    def levels(self) -> list[Level]:
        """The levels that processes have come to."""
        return [level for level in map(_level, self.processes.values()) if level is not None]

    @property
    def level(self) -> Level:
        """The level in force."""
        return in_force(self.levels, self.override, self.now_s)

    def as_json(self) -> dict[str, object]:
        """The level in force, what it turns off, the override, and what each process says of itself."""
        level, override = self.level, self.override
        return {
            "level": int(level),
            "name": level.name.lower(),
            "off": [feature.value for feature in Feature if not allowed(feature, level)],
            "override": None if override is None else {**override._asdict(), "level": int(override.level)},
            "processes": [{"process": name, **said} for name, said in sorted(self.processes.items())],
        }


class DegradationBoard:
    """The hash. Each method waits and fails as those of `RedisLog` do."""

    def __init__(self, redis: RedisLog, prefix: str, ladder: LadderSettings) -> None:
        self._redis = redis
        self._key = f"{prefix}:degradation"
        self._stale_ms = int(1000 * ladder.stale_s)

    async def exchange(self, process: str = "", said: Mapping[str, object] | None = None) -> Heard:
        """Say something as `process` (unless "") and hear what all say."""
        field = f"{_PROCESS}{process}" if process else ""
        args: list[str | bytes | int] = [field, json.dumps(said or {}), self._stale_ms, _FORGET_MS, OVERRIDE]
        answer = await self._redis.script(_EXCHANGE, [self._key], args)
        now_ms, parts = int(answer[0]), [part.decode("utf-8", "backslashreplace") for part in answer[1:]]
        override, processes = None, {}
        for name, at_ms, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            found = _parsed(text)
            if name == OVERRIDE:
                level = _level(found)
                words = str(found.get("by", "")), str(found.get("reason", ""))
                override = None if level is None else Override(level, int(at_ms) / 1000, *words)
            else:
                processes[name.removeprefix(_PROCESS)] = found
        return Heard(now_ms / 1000, processes, override)

    async def override(self, level: Level, *, seconds: float, by: str, reason: str) -> Override:
        """Let `level` hold for so many seconds, whatever is measured."""
        said = json.dumps({"level": int(level), "by": by, "reason": reason})
        ends_ms = await self._redis.script(_OVERRIDE, [self._key], [OVERRIDE, said, int(1000 * seconds)])
        return Override(level, int(ends_ms) / 1000, by, reason)

    async def clear(self) -> bool:
        """End the override; False: there was none."""
        return bool(await self._redis.call("HDEL", self._key, OVERRIDE))

    async def leave(self, process: str) -> None:
        """Take back what a process said."""
        await self._redis.call("HDEL", self._key, f"{_PROCESS}{process}")

    async def lag_s(self, now_s: float) -> float:
        """How long the oldest row or entry has waited, as told within the last seconds; 0 when nothing waits."""
        stages = [parse_stage(text) for text in (await self._redis.read_lag()).values()]
        return max((s.oldest_s for s in stages if s is not None and s.count and now_s - s.at_s <= STALE_S), default=0.0)


class Degradation:
    """One process on the ladder. `signals` measures it; without, it only reads along."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisLog,
        clock: Clock,
        metrics: LoadMetrics,
        process: str,
        signals: Callable[[], Sequence[Signal]] | None = None,
    ) -> None:
        ladder = settings.ladder
        self._settings = ladder
        self._clock = clock
        self._process = process
        self._signals = signals
        self._board = DegradationBoard(redis, settings.prefix, ladder)
        most = Level(ladder.automatic_most)
        self._rules = LadderRules(ladder.up_after_s, ladder.down_after_s, ladder.clear_ratio, most)
        self._gauge = metrics.level.labels(process.partition(":")[0])
        self._standing = Standing()
        self._seen: Sequence[Signal] = ()
        self._heard = Heard(clock.wall_s(), {}, None)
        self._lag_s = 0.0
        self._away = False
        self.level = Level.NORMAL
        self._gauge.set(self.level)

    def allows(self, feature: Feature) -> bool:
        """Whether the level in force leaves a feature on."""
        return allowed(feature, self.level)

    def passes(self) -> Priority:
        """The least important work that passes gates at the level in force."""
        return PASSES[self.level]

    def why(self) -> str:
        """What the level in force comes from, in words."""
        override = self._heard.override
        if override is not None:
            return f"set by {override.by or 'an operator'}: {override.reason or 'no reason given'}"
        causes = {str(said.get("cause", "")) for said in self._heard.processes.values()} | {self._standing.cause}
        return ", ".join(sorted(causes - {""})) or "nothing"

    def state(self) -> dict[str, object]:
        """Where it stands, as JSON: the level in force and why, this process' own level, and its signals."""
        return {"level": int(self.level), "name": self.level.name.lower(), "why": self.why(), "own": self._said()}

    async def run(self) -> None:
        """Look every ladder.every_s until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.every_s)

    async def stop(self) -> None:
        """Take back what this process said, after `run` was cancelled; without Redis it is forgotten in time."""
        if self._signals is not None:
            with suppress(ServerMissing):
                await self._board.leave(self._process)

    async def look(self) -> None:
        """Measure, climb or come down, tell and hear. Waits for Redis at most three of its command timeouts."""
        if self._signals is not None:
            lag = Signal("lag_s", self._lag_s, self._settings.lag_s, Level.NO_BACKGROUND)
            self._seen = (*self._signals(), lag)
            self._standing = moved(self._standing, self._seen, self._clock.monotonic_s(), self._rules)
        try:
            self._heard = await self._hear()
            self._away = False
        except ServerMissing as error:
            if not self._away and self._signals is not None:
                _log.warning("the level of degradation is this process' own", error=str(error))
            self._away = True
            now_s, word = self._clock.wall_s(), self._heard.override
            self._heard = Heard(now_s, {}, word if word is not None and now_s < word.until_s else None)
            self._lag_s = 0.0
        self._take(in_force([self._standing.level, *self._heard.levels], self._heard.override, self._heard.now_s))

    async def _hear(self) -> Heard:
        if self._signals is None:
            return await self._board.exchange()
        self._lag_s = await self._board.lag_s(self._clock.wall_s())
        return await self._board.exchange(self._process, self._said())

    def _take(self, level: Level) -> None:
        before, self.level = self.level, level
        if before != level:
            said = _log.warning if level > before else _log.info
            said("degradation", level=int(level), name=level.name.lower(), before=int(before), why=self.why())
            self._gauge.set(level)

    def _said(self) -> dict[str, object]:
        signals = {each.name: {"value": round(each.value, 3), "limit": each.limit} for each in self._seen}
        return {"level": int(self._standing.level), "cause": self._standing.cause, "signals": signals}


def _parsed(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _level(said: Mapping[str, object]) -> Level | None:
    """The level in what somebody said; None when it cannot be read (a newer version may know more)."""
    level = said.get("level")
    return Level(level) if isinstance(level, int) and level in Level._value2member_map_ else None
