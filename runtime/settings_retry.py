"""Settings of agents that call something for each record: order, concurrency, retries, quotas."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runtime.settings_group import Group


class RetrySettings(Group):
    """How one effect agent (the adapter, the Celery bridge) calls, tries again and gives up."""

    concurrency: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Most calls under way for each partition. More helps while calls mostly wait for the other side.",
    )
    order: Literal["aggregate", "none"] = Field(
        default="aggregate",
        description="aggregate: an aggregate's records run one after the other in the order of the log, and behind one "
        "that waits for its retry. none: all run at once, as far as concurrency lets them.",
    )
    call_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=600,
        description="A call that takes longer is cancelled, and counts as failed. Above the deadline that the agent "
        "itself keeps, so that this is the last resort.",
    )
    tries: int = Field(
        default=8,
        ge=1,
        le=100,
        description="Tries of a record before it becomes a dead letter; with the delays' defaults the last one comes "
        "about five minutes after the first. 1 switches retries off. Calls that were refused on our side do not count.",
    )
    base_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Longest delay before the second try; it doubles with each try up to cap_s, and the delay is drawn "
        "from zero to it (full jitter), so that what failed together does not come back together.",
    )
    cap_s: float = Field(default=600.0, gt=0, le=86_400, description="No delay is longer, but for Retry-After.")
    retry_per_s: float = Field(
        default=20.0,
        gt=0,
        le=1_000_000,
        description="Most retries a second of this worker, so that an outage's leftovers do not become the next one. "
        "First tries are not counted.",
    )
    waiting_records: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Records of a partition that may wait for a retry or for their tenant's quota; beyond that the "
        "partition is read no further. One takes some 300 bytes of memory, its payload is on disk.",
    )
    tenant_per_s: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Most calls a second for one tenant by all workers together, each of which has a share like its "
        "share of the partitions; what is above waits without holding others up. 0 switches it off.",
    )
    tenant_burst: int = Field(
        default=50,
        ge=1,
        le=1_000_000,
        description="Calls of a tenant that may come at once, shared likewise. Only with tenant_per_s.",
    )
