"""The ladder of degradation: what is given up, in which order, so that orders and voice go on. Pure.

    level              climbs one step after `up_after_s` of pressure, goes down one after `down_after_s` of calm
    0 NORMAL
    1 NO_BACKGROUND    replay and archive pause
    2 STALE            as 1: for caches that may answer with what they have, of which there are none yet
    3 ESSENTIAL        orders and voice only
    4 READ_ONLY        as 3: for what changes something for clients, which nothing does yet; operators only

        pressure          calm = every signal below limit * clear_ratio; between both, nothing moves (hysteresis)
    n ----------> n + 1
      <----------
         calm

Each signal says how far up it may drive: a level must be able to help against what is measured. A Kafka that is away
shows as lag, and no client that is turned away brings it back; so lag pauses the background, and nothing else. In force
is an operator's override while there is one, else the highest level that any process has come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import NamedTuple

from reliability.call import Priority


class Level(IntEnum):
    """See the drawing above."""

    NORMAL = 0
    NO_BACKGROUND = 1
    STALE = 2
    ESSENTIAL = 3
    READ_ONLY = 4


class Feature(StrEnum):
    """What a level can turn off. Whoever does such work asks `allowed` first."""

    REPLAY = "replay"
    """`headrace replay`: reading and sending pause; nothing is lost."""
    ARCHIVE = "archive"
    """`headrace archive`: copying pauses between two chunks."""
    TABLES = "tables"
    """Views of tables through the gateway."""
    STREAMS = "streams"
    """New streams other than of orders, voice and alerts; open ones go on."""


# The one table of what goes at which level, read through `allowed`. It names what there is, and nothing else: operators
# are shown it. Relay, mirror, worker and control have no line: what they could leave for later (trimming, purging,
# requeueing) keeps servers from filling up, and a lag that lasts would put it off for ever.
TURNED_OFF_AT: Mapping[Feature, Level] = MappingProxyType(
    {
        Feature.REPLAY: Level.NO_BACKGROUND,
        Feature.ARCHIVE: Level.NO_BACKGROUND,
        Feature.TABLES: Level.ESSENTIAL,
        Feature.STREAMS: Level.ESSENTIAL,
    }
)
# The least important work that gates let pass.
PASSES: Mapping[Level, Priority] = MappingProxyType(
    {
        Level.NORMAL: Priority.BACKGROUND,
        Level.NO_BACKGROUND: Priority.LOW,
        Level.STALE: Priority.LOW,
        Level.ESSENTIAL: Priority.CRITICAL,
        Level.READ_ONLY: Priority.CRITICAL,
    }
)


def allowed(feature: Feature, level: Level) -> bool:
    """Whether the feature is on at a level."""
    return level < TURNED_OFF_AT[feature]


class Signal(NamedTuple):
    """A measurement: pressure from `limit` (> 0) on, up to level `most`."""

    name: str
    value: float
    limit: float
    most: Level

    @property
    def ratio(self) -> float:
        """1 and above is pressure."""
        return self.value / self.limit


class LadderRules(NamedTuple):
    """See settings, group `ladder`."""

    up_after_s: float
    down_after_s: float
    clear_ratio: float
    automatic_most: Level


class Standing(NamedTuple):
    """Where a process stands on the ladder, since when it is pressed or calm (monotonic seconds), and what pressed."""

    level: Level = Level.NORMAL
    pressed_since_s: float | None = None
    calm_since_s: float | None = None
    cause: str = ""


class Override(NamedTuple):
    """An operator's word. `until_s`: Unix seconds."""

    level: Level
    until_s: float
    by: str
    reason: str


def moved(standing: Standing, signals: Iterable[Signal], now_s: float, rules: LadderRules) -> Standing:
    """Where the process stands after this look at its signals; at most one step away."""
    level, seen = standing.level, list(signals)
    pressing = [each for each in seen if min(each.most, rules.automatic_most) > level and each.ratio >= 1]
    if pressing:
        since_s = now_s if standing.pressed_since_s is None else standing.pressed_since_s
        if now_s - since_s < rules.up_after_s:
            return standing._replace(pressed_since_s=since_s, calm_since_s=None)
        worst = max(pressing, key=lambda each: each.ratio)
        return Standing(Level(level + 1), now_s, None, worst.name)
    if level == Level.NORMAL:
        return Standing()
    # A signal that cannot have driven it here does not hold it here.
    if any(min(each.most, rules.automatic_most) >= level and each.ratio > rules.clear_ratio for each in seen):
        return standing._replace(pressed_since_s=None, calm_since_s=None)
    since_s = now_s if standing.calm_since_s is None else standing.calm_since_s
    if now_s - since_s < rules.down_after_s:
        return standing._replace(pressed_since_s=None, calm_since_s=since_s)
    lower = Level(level - 1)
    return Standing(lower, None, now_s, standing.cause if lower else "")


def in_force(levels: Sequence[Level], override: Override | None, now_s: float) -> Level:
    """The level that holds: the override's until it ends (`now_s` in Unix seconds), else the highest of `levels`."""
    if override is not None and now_s < override.until_s:
        return override.level
    return max(levels, default=Level.NORMAL)
