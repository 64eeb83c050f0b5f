"""Work that can be done later, such as a replay or an archive, stands still while a level of degradation says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from reliability.load_metrics import LoadMetrics
from runtime.metrics import Metrics
from streams.degradation import Degradation
from streams.redis_log import RedisLog

if TYPE_CHECKING:
    from reliability.ladder import Feature
    from runtime.clock import Clock
    from runtime.settings import Settings

EVERY_S = 0.2


class Background:
    """One command's permission to go on."""

    def __init__(self, degradation: Degradation, feature: Feature, say: Callable[[str], None]) -> None:
        self._degradation = degradation
        self._feature = feature
        self._say = say

    async def wait(self) -> None:
        """Return when the work may go on: at once, or when the level has come down; there is no other bound."""
        found = self._degradation
        if found.allows(self._feature):
            return
        self._say(f"paused at level {found.level:d} of degradation ({found.why()}); see `headrace degradation show`")
        while not found.allows(self._feature):  # noqa: ASYNC110 - the level is looked at twice a second, by polling
            await asyncio.sleep(EVERY_S)
        self._say("goes on")


@asynccontextmanager
async def watched(
    settings: Settings, clock: Clock, feature: Feature, say: Callable[[str], None]
) -> AsyncIterator[Background]:
    """Watch the level while the body runs. Without Redis nobody can say that it should wait, so it goes on."""
    redis = RedisLog(settings.redis, settings.prefix, client_name=f"headrace-{feature.value}")
    degradation = Degradation(settings, redis, clock, LoadMetrics(Metrics()), feature.value)
    await degradation.look()
    watching = asyncio.create_task(degradation.run(), name="degradation")
    try:
        yield Background(degradation, feature, say)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await redis.close()
