"""A stream's lag, and its trimming behind whoever reads it; warnings come before anybody is overtaken.

Where it stands: `streams.mirror_session` calls it once a second, and `streams.mirror` when no session gets on; what may
go is decided in `streams.trim_plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.names import Stream, redis_stream
from runtime.lag import StageLag
from runtime.logs import get_logger
from streams import stream_readers, trim_plan
from streams.mirror_plan import START, StreamId, parse_id
from streams.trim_plan import Extent, Kept, Limits, Need

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.mirror_shared import Shared
    from streams.redis_log import StreamInfo

_log = get_logger(__name__)

_TRIM_S = 5.0
_PAGE = 1_000
# A group this near to being overtaken is warned of.
WARN_RATIO = 0.8
# Entries that Redis looks at to estimate a stream's memory.
_SAMPLES = 20
PLAYBOOK = "docs/playbooks/stream-reader-behind.md"


class Trimming:
    """Of one stream, for one owner."""

    def __init__(self, shared: Shared, stream: Stream) -> None:
        settings = shared.settings.mirror
        self._redis = shared.redis
        self._leases = shared.leases
        self._clock = shared.clock
        self._metrics = shared.metrics
        self._stream = stream
        self._key = redis_stream(shared.settings.prefix, stream)
        self._limits = Limits(
            settings.keep_entries, 1000 * settings.dead_reader_s, 1000 * settings.unread_age_s, settings.stream_bytes
        )
        self._kept = Kept()
        self._position: StreamId | None = None
        self._trimmed_s = 0.0
        # Groups without a consumer, and since when (monotonic): for so long they have been silent, at least.
        self._alone: dict[str, float] = {}
        self._warned: set[str] = set()
        self._told: set[str] = set()

    async def begin(self, position: StreamId) -> None:
        """Learn which entries stand at or below the position; trimming keeps them few. Raises ServerMissing."""
        self._kept, self._position, after = Kept(), None, "-"
        while position > START:
            entries = await self._redis.read_range(self._key, after, str(position), _PAGE)
            if not entries:
                break
            self._kept.passed(parse_id(entries[-1].id), len(entries))
            after = f"({entries[-1].id}"
        self._position = position

    def passed(self, last: StreamId, count: int) -> None:
        """The position moved over `count` entries to `last`."""
        self._kept.passed(last, count)
        self._position = last

    async def look(self, info: StreamInfo, *, may_trim: Callable[[], bool]) -> None:
        """Tell how far the mirror is behind, and every five seconds trim. Raises ServerMissing."""
        await self._tell_lag(info, self._position or START)
        if info.length and self._clock.monotonic_s() - self._trimmed_s >= _TRIM_S:
            self._trimmed_s = self._clock.monotonic_s()
            await self._trim(info, may_trim)

    async def tell(self) -> None:
        """Tell how far the mirror is behind while it does not get on: else nobody sees it. Raises ServerMissing."""
        if self._position is None:
            stored = (await self._leases.read_position(self._key)).get("position")
            await self.begin(parse_id(stored) if stored else START)
        await self._tell_lag(await self._redis.stream_info(self._key), self._position or START)

    async def _tell_lag(self, info: StreamInfo, position: StreamId) -> None:
        oldest_s = 0.0
        wall_s = self._clock.wall_s()
        if parse_id(info.last_id) == position:
            self._kept.settle(info.length)
        else:
            for entry in await self._redis.read_range(self._key, f"({position}", "+", 1):
                oldest_s = max(0.0, wall_s - parse_id(entry.id).ms / 1000)
        lag = StageLag(max(0, info.length - self._kept.count), oldest_s, wall_s)
        self._metrics.lag_entries.labels(self._stream.value).set(lag.count)
        self._metrics.lag_seconds.labels(self._stream.value).set(lag.oldest_s)
        await self._redis.write_lag(f"mirror:{self._stream.value}", lag.to_json())

    async def _trim(self, info: StreamInfo, may_trim: Callable[[], bool]) -> None:
        used_bytes = int(await self._redis.call("MEMORY", "USAGE", self._key, "SAMPLES", _SAMPLES) or 0)
        extent = Extent(info.length, used_bytes, 1000 * self._clock.wall_s())
        needs = self._timed(await stream_readers.needs(self._redis, self._key))
        self._tell_groups(needs, extent)
        cut = trim_plan.plan(self._kept, needs, self._limits, extent)
        if cut.min_id == START or not may_trim():
            return
        removed = await self._redis.trim_before(self._key, str(cut.min_id))
        self._kept.trimmed(removed)
        self._metrics.trimmed.labels(self._stream.value).inc(removed)
        for group, count in cut.overtaken.items() if removed else ():
            self._metrics.trimmed_unread.labels(self._stream.value, group).inc(count)
            _log.error(
                "entries removed that a consumer group had not finished",
                stream=self._stream.value,
                consumer_group=group,
                entries=count,
                playbook=PLAYBOOK,
            )

    def _timed(self, needs: list[Need]) -> list[Need]:
        now_s = self._clock.monotonic_s()
        alone = {need.group for need in needs if need.idle_ms == stream_readers.NOBODY_MS}
        self._alone = {group: self._alone.get(group, now_s) for group in alone}
        return [
            need._replace(idle_ms=1000 * (now_s - self._alone[need.group])) if need.group in alone else need
            for need in needs
        ]

    def _tell_groups(self, needs: list[Need], extent: Extent) -> None:
        """Each group's backlog and how near its end is; one warning each time a group comes near."""
        name = self._stream.value
        self._metrics.memory_bytes.labels(name).set(extent.used_bytes)
        near = set()
        for need in needs:
            ratio = trim_plan.pressure(need, self._limits, extent)
            oldest_s = 0.0 if need.oldest is None else max(0.0, (extent.now_ms - need.oldest.ms) / 1000)
            self._metrics.unread_seconds.labels(name, need.group).set(oldest_s)
            self._metrics.trim_pressure.labels(name, need.group).set(ratio)
            if ratio >= WARN_RATIO:
                near.add(need.group)
                if need.group not in self._warned:
                    _log.warning(
                        "a consumer group is about to lose entries",
                        stream=name,
                        consumer_group=need.group,
                        oldest_s=round(oldest_s),
                        silent_s=round(need.idle_ms / 1000),
                        stream_bytes=extent.used_bytes,
                        pressure_ratio=round(ratio, 2),
                        playbook=PLAYBOOK,
                    )
        self._warned = near
        groups = {need.group for need in needs}
        for gone in self._told - groups:
            self._metrics.unread_seconds.remove(name, gone)
            self._metrics.trim_pressure.remove(name, gone)
        self._told = groups
