"""Settings of what keeps a process upright under load: rate limits, the gate, the ladder of degradation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from runtime.settings_group import Group

# One for each of reliability.call.Priority.
PRIORITIES = 4

Share = Annotated[float, Field(gt=0, le=1)]


class LimitSettings(Group):
    """Rate limits of the gateway. A limit of R a second with a burst of B lets at most B + R * t through in any t s."""

    shared: bool = Field(
        default=True,
        description="true: one count in Redis for all gateways. false: each gateway counts for itself, and never "
        "waits.",
    )
    redis_timeout_ms: float = Field(
        default=20.0,
        ge=1,
        le=1000,
        description="Longest wait for Redis' answer to a check, ms. Then this process decides by itself, with its part "
        "of each limit, until Redis answers again.",
    )
    retry_redis_s: float = Field(
        default=1.0,
        ge=0.05,
        le=60,
        description="While Redis does not answer, it is asked this often, in seconds, whether it does; no caller "
        "waits for that.",
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="While Redis does not answer, a process allows itself one part in so many of each limit, or one in "
        "as many processes as Redis last counted if those are more.",
    )
    most_keys: int = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        description="Most tenants and routes counted in this process' memory (about 200 bytes each); beyond it, the "
        "one that was quiet for longest is forgotten.",
    )
    tenant_per_s: float = Field(
        default=50.0,
        ge=0,
        le=1_000_000,
        description="Requests a second of one tenant (tables, session). A page makes about five, once. 0 switches "
        "it off.",
    )
    tenant_burst: int = Field(default=100, ge=1, le=10_000_000, description="Requests of one tenant at once.")
    opens_per_s: float = Field(
        default=200.0,
        ge=0,
        le=1_000_000,
        description="Streams that one tenant opens a second. A client beyond it is told to come back, and does. 0 "
        "switches it off.",
    )
    opens_burst: int = Field(
        default=2000,
        ge=1,
        le=10_000_000,
        description="Streams of one tenant at once: as many as come back together when a gateway restarts.",
    )
    route_per_s: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Requests a second to one route (tables, session, control, stream) by all tenants together. 0, "
        "the default, switches it off: the gate keeps slow workers from being flooded.",
    )
    route_burst: int = Field(default=200, ge=1, le=10_000_000, description="Requests to one route at once.")
    global_per_s: float = Field(
        default=2000.0,
        ge=0,
        le=1_000_000,
        description="Requests and openings a second of all tenants together. 0 switches it off.",
    )
    global_burst: int = Field(default=10_000, ge=1, le=10_000_000, description="Requests and openings at once.")


class GateSettings(Group):
    """How many requests are worked on at once: a width that finds itself, and a short queue that is kept short."""

    initial: int = Field(default=20, ge=1, le=10_000, description="Width at the start.")
    least: int = Field(default=4, ge=1, le=10_000, description="The width never falls below this.")
    most: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="The width never rises above this. The same number for `least`, `initial` and `most` makes it "
        "fixed.",
    )
    tolerance: float = Field(
        default=1.5,
        ge=1,
        le=10,
        description="The width falls when work takes longer than this many times its unloaded time.",
    )
    smoothing: float = Field(
        default=0.2, gt=0, le=1, description="How much of each new estimate of the width is taken on; 1: all of it."
    )
    target_ms: float = Field(
        default=5.0,
        gt=0,
        le=10_000,
        description="A queue whose shortest wait stays above this for `interval_ms` is standing, not buffering: what "
        "waited for twice as long is turned away.",
    )
    interval_ms: float = Field(
        default=100.0, gt=0, le=60_000, description="See `target_ms`; also the longest that anything waits here."
    )
    waiting: int = Field(
        default=500,
        ge=0,
        le=1_000_000,
        description="Most requests that wait; beyond it the least important is turned away. 0: nothing ever waits.",
    )
    shares: tuple[Share, ...] = Field(
        default=(1.0, 0.95, 0.9, 0.5),
        min_length=PRIORITIES,
        max_length=PRIORITIES,
        description="Most of the width that critical, normal, low and background work may hold, so that slow work of "
        "little weight never holds all of it. 1.0 four times switches that off.",
    )
    retry_after_s: float = Field(
        default=1.0, gt=0, le=600, description="What a client that is turned away is told to wait."
    )

    @model_validator(mode="after")
    def _least_first(self) -> GateSettings:
        if not self.least <= self.initial <= self.most:
            msg = f"least ({self.least}) <= initial ({self.initial}) <= most ({self.most}) does not hold"
            raise ValueError(msg)
        return self


class LadderSettings(Group):
    """The ladder of degradation: 0 normal to 4 read-only. What each level turns off: docs/load.md."""

    every_s: float = Field(default=0.5, ge=0.1, le=60, description="Time between two looks at the signals.")
    up_after_s: float = Field(default=2.0, ge=0, le=600, description="Pressure for this long climbs one level.")
    down_after_s: float = Field(
        default=30.0, ge=0, le=3600, description="Calm for this long goes down one level; not below `up_after_s`."
    )
    clear_ratio: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Calm is below limit * clear_ratio (hysteresis). 1 switches the gap off.",
    )
    automatic_most: int = Field(
        default=3,
        ge=0,
        le=4,
        description="The highest level taken without an operator; 0 leaves every level to operators. 4 (read-only) is "
        "theirs by default: no measurement tells that nothing may be written.",
    )
    loop_lag_ms: float = Field(
        default=250.0,
        gt=0,
        le=60_000,
        description="Pressure (up to level 3): an event loop comes this much too late. Set it very high to switch it "
        "off; so for the next two.",
    )
    shed_ratio: float = Field(
        default=0.1,
        gt=0,
        le=1_000_000,
        description="Pressure (up to level 3): this part of the requests is turned away by a gate.",
    )
    lag_s: float = Field(
        default=10.0,
        gt=0,
        le=1_000_000,
        description="Pressure (up to level 1 only: a server that is away shows as lag, and turning clients away would "
        "not bring it back): the oldest row in the outbox or entry in a stream has waited for so long.",
    )
    stale_s: float = Field(
        default=5.0,
        ge=1,
        le=600,
        description="What another process said of itself counts for this long; at least two `every_s`.",
    )

    @model_validator(mode="after")
    def _fits(self) -> LadderSettings:
        if self.stale_s < 2 * self.every_s:
            msg = (
                f"stale_s ({self.stale_s}) must be at least twice every_s ({self.every_s}): what a process said "
                "would lapse before it says it again"
            )
            raise ValueError(msg)
        if self.down_after_s < self.up_after_s:
            msg = (
                f"down_after_s ({self.down_after_s}) must not be below up_after_s ({self.up_after_s}): the level would "
                "fall while what drives it up is still looked at"
            )
            raise ValueError(msg)
        return self
