"""What the streams of one mirror process have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.leases import Leases
    from streams.mirror_metrics import MirrorMetrics
    from streams.redis_log import RedisLog


@dataclass(frozen=True)
class Shared:
    """Made once, in `streams.mirror`; clients belong to it."""

    settings: Settings
    redis: RedisLog
    leases: Leases
    clock: Clock
    metrics: MirrorMetrics
