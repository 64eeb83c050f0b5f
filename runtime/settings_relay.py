"""Settings of the relay: what it claims, what it holds back, and what it does when something is lost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from contracts.names import Stream
from runtime.settings_group import Group
from runtime.settings_servers import PostgresSettings, RedisSettings

# What becomes of the later rows of an aggregate of which one was buried.
Poison = Literal["skip", "block", "park"]


class RelaySettings(Group):
    """PostgreSQL outbox to Redis Streams."""

    batch_rows: int = Field(default=500, ge=1, le=10_000, description="Most rows claimed in one transaction.")
    batch_bytes: int = Field(
        default=8_388_608, ge=65_536, le=268_435_456, description="Most payload bytes claimed in one transaction."
    )
    poll_s: float = Field(
        default=0.02,
        ge=0.001,
        le=10,
        description="Pause between two looks at an empty outbox. The doorbell ends it early; polling finds what "
        "a lost doorbell missed.",
    )
    idle_poll_s: float = Field(
        default=0.25, ge=0.001, le=60, description="Pause that `poll_s` grows to while the outbox stays empty."
    )
    shards: int = Field(
        default=64,
        ge=1,
        le=64,
        description="Most of the 64 aggregate shards one relay claims at a time; lower it to share work.",
    )
    young_row_s: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="The scan hint stays behind rows younger than this, so that an id which commits late is "
        "found by the next poll.",
    )
    poison: dict[Stream, Poison] = Field(
        default={},
        description='By stream, what a buried row does to the later ones of its aggregate, e.g. {"orders": "block"}. '
        "skip (for every stream not named): they go on without it. block: they wait in the outbox. park: they follow "
        "it into the dead letters. The last two until its letter is recovered or discarded. skip is the default "
        "because most consumers take events one by one, and a product that writes one bad row writes many.",
    )
    tenant_rows_per_s: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Most rows a second published for one tenant, by all relays together; what is over waits, in "
        "order. 0 (default) switches quotas off for tenants that `tenant_quotas` does not name.",
    )
    tenant_quotas: dict[str, Annotated[float, Field(ge=0, le=1_000_000)]] = Field(
        default={},
        description="Rows a second of single tenants, instead of `tenant_rows_per_s`; 0 is no limit. To stop a tenant "
        "use `headrace tenants pause`.",
    )
    tenant_burst_s: float = Field(
        default=2.0,
        ge=0.1,
        le=600,
        description="A tenant that was quiet may publish what this many seconds of its quota allow at once.",
    )
    rewind_history_s: float = Field(
        default=3000.0,
        ge=10,
        le=604_800,
        description="How far back the relay can tell what a Redis that lost entries still has. Rows processed since "
        "are published again; their markers, if Redis still has them, keep them from being doubled, so this must be "
        "less than `redis.marker_ttl_s`. An emptied Redis gets all of it; more is lost to it.",
    )
    wait_disk_ms: int = Field(
        default=0,
        ge=0,
        le=60_000,
        description="Longest wait for Redis to have each batch on its own disk (WAITAOF, Redis >= 7.2 with "
        "appendonly) before its rows are marked. 0 (default) does not wait: it costs up to a second a batch with "
        "everysec, and rows that Redis lost are published again anyway.",
    )
    purge_after_hours: float = Field(
        default=0.0,
        ge=0,
        le=87_600,
        description="Processed rows older than this are deleted from the outbox (which needs the right to DELETE), a "
        "thousand at a time; rows with an open dead letter stay. 0 (default) deletes nothing. At least "
        "`rewind_history_s`.",
    )
    host: str = Field(default="127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    port: int = Field(
        default=8021, ge=0, le=65_535, description="Port of /metrics and /healthz; 0 switches the server off."
    )

    def quota_of(self, tenant_id: str) -> float:
        """Rows a second that the tenant may publish; 0 is no limit."""
        return self.tenant_quotas.get(tenant_id, self.tenant_rows_per_s)

    @property
    def has_quotas(self) -> bool:
        """Whether any tenant is limited."""
        return self.tenant_rows_per_s > 0 or any(self.tenant_quotas.values())

    def check_with(self, redis: RedisSettings, postgres: PostgresSettings) -> None:
        """Raise ValueError for limits that contradict each other."""
        if self.idle_poll_s < self.poll_s:
            raise ValueError(f"relay.idle_poll_s ({self.idle_poll_s}) must not be below relay.poll_s ({self.poll_s})")
        if redis.command_timeout_s >= postgres.idle_in_transaction_timeout_s:
            raise ValueError(
                f"redis.command_timeout_s ({redis.command_timeout_s}) must be below "
                f"postgres.idle_in_transaction_timeout_s ({postgres.idle_in_transaction_timeout_s}): "
                "the relay waits for Redis inside its transaction"
            )
        if self.rewind_history_s >= redis.marker_ttl_s:
            raise ValueError(
                f"relay.rewind_history_s ({self.rewind_history_s}) must be below "
                f"redis.marker_ttl_s ({redis.marker_ttl_s}): without markers, rows that Redis kept are doubled"
            )
        if 0 < self.purge_after_hours * 3600 < self.rewind_history_s:
            raise ValueError(
                f"relay.purge_after_hours ({self.purge_after_hours}) must not be shorter than "
                f"relay.rewind_history_s ({self.rewind_history_s}): those rows may have to be published again"
            )
        if self.wait_disk_ms and 2 * self.wait_disk_ms > 1000 * redis.command_timeout_s:
            raise ValueError(
                f"relay.wait_disk_ms ({self.wait_disk_ms}) must be at most half of redis.command_timeout_s "
                f"({redis.command_timeout_s}): a reply that is late counts as an outage"
            )
