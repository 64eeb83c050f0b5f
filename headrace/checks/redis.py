"""Redis or Valkey: version, rights under our prefix, what it does when memory is full, durability, the clock.

The only thing written is one probe key under `{prefix}:doctor:`, which is removed and would expire by itself.
"""

from __future__ import annotations

import os

from contracts.errors import ServerMissing
from headrace.checks.finding import Notebook, version_of
from runtime.clock import Clock
from runtime.settings import Settings
from streams.redis_log import RedisLog

OLDEST_VERSION = (7, 0)
PROBE_TTL_MS = 10_000
# The same commands as the relay's script: run Lua, append to a stream, set an expiry.
PROBE = (
    "redis.call('XADD', KEYS[1], '*', 'probe', '1') redis.call('PEXPIRE', KEYS[1], ARGV[1]) "
    "return redis.call('XLEN', KEYS[1])"
)


async def examine(settings: Settings, notes: Notebook, clock: Clock) -> None:
    """Ask everything over one connection.

    Raises:
        ServerMissing: it does not answer, or the connection broke.
    """
    log = RedisLog(settings.redis, settings.prefix, client_name="headrace-doctor")
    try:
        info = parse_info(await log.call("INFO"))
        judge_info(info, notes)
        before_s = clock.wall_s()
        seconds, micros = await log.call("TIME")
        notes.skew(int(seconds) + int(micros) / 1e6, before_s, clock.wall_s())
        await _rights(log, settings.prefix, notes)
    finally:
        await log.close()


def judge_info(info: dict[str, str], notes: Notebook) -> None:
    """Version, eviction and durability, from the fields of INFO."""
    server = "Valkey" if "valkey_version" in info else "Redis"
    own = info.get("valkey_version") or info.get("redis_version", "unknown")
    # Valkey tells the Redis version that it is compatible with in the old field.
    compatible = version_of(info.get("redis_version", ""))
    notes.judge(
        "version",
        good=compatible >= OLDEST_VERSION,
        found=f"{server} {own}",
        remedy="Headrace needs Redis 7.0 or newer",
    )
    policy = info.get("maxmemory_policy", "unknown")
    bounded = info.get("maxmemory", "0") != "0"
    if policy == "noeviction":
        notes.ok("memory", "refuses writes when full and evicts nothing")
    elif bounded:
        notes.fail(
            "memory",
            f"evicts keys when full ({policy})",
            "CONFIG SET maxmemory-policy noeviction: evicted entries are lost events",
        )
    else:
        notes.warn("memory", f"policy {policy}, without a maxmemory", "set maxmemory and maxmemory-policy noeviction")
    if info.get("aof_enabled") == "1":
        notes.ok("durability", "append-only file on")
    else:
        notes.warn(
            "durability",
            "no append-only file: a crash loses entries that are not in Kafka yet",
            "appendonly yes, appendfsync everysec (in production)",
        )


async def _rights(log: RedisLog, prefix: str, notes: Notebook) -> None:
    key = f"{prefix}:doctor:{os.getpid()}"
    try:
        await log.call("EVAL", PROBE, 1, key, PROBE_TTL_MS)
        await log.call("DEL", key)
    except ServerMissing as error:
        notes.fail("rights", error.reason, f"allow ~{prefix}:* with +@stream +@scripting +@write +@read +@pubsub")
    else:
        notes.ok("rights", f"may run scripts and append under {prefix}:")


def parse_info(raw: bytes | dict[str, object]) -> dict[str, str]:
    """The fields of INFO's reply, all sections together."""
    if isinstance(raw, dict):
        return {str(name): str(value) for name, value in raw.items()}
    pairs = (line.partition(":") for line in raw.decode().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
