"""Settings of the mirror: Redis Streams to Kafka."""

from __future__ import annotations

from pydantic import Field

from runtime.settings_group import Group


class MirrorSettings(Group):
    """Redis Streams to Kafka."""

    batch_entries: int = Field(
        default=500,
        ge=1,
        le=1_000,
        description="Most entries of one stream in flight; bounds memory while Kafka stalls.",
    )
    transactions: bool = Field(
        default=True,
        description="One Kafka transaction for each batch, where the broker has transactions: a batch becomes visible "
        "as a whole, and a former owner is shut out at once. Adds some 5 ms to a batch, 20 to 30 while batches follow "
        "one another. false, or a broker without them: late batches are told by their epochs.",
    )
    lease_s: float = Field(
        default=6.0, ge=1, le=120, description="A stream's owner is replaced this long after its last sign of life."
    )
    keep_entries: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Mirrored entries kept behind the slowest reader before trimming.",
    )
    dead_reader_s: float = Field(
        default=3600.0,
        ge=0,
        le=2_592_000,
        description="A consumer group of a stream whose consumers have all been silent for longer, or that has had "
        "none for longer, no longer holds trimming back. 0: every group does, for ever.",
    )
    unread_age_s: float = Field(
        default=86_400.0,
        ge=0,
        le=2_592_000,
        description="A mirrored entry older than this goes even if a live consumer group has not finished it, so that "
        "a group that never gets on cannot fill Redis. 0 switches this off.",
    )
    stream_bytes: int = Field(
        default=536_870_912,
        ge=0,
        le=1_099_511_627_776,
        description="When a stream takes more memory in Redis, its oldest mirrored entries go, whoever still needs "
        "them and whatever keep_entries says; what is not mirrored never goes. 0 switches this off.",
    )
    tenant_entries_per_s: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Most entries a second of one tenant in one stream that go on to Kafka; what is over waits in a "
        "stream of its own, in order, so that a noisy tenant delays only itself. 0 (default) switches quotas off for "
        "tenants that `tenant_quotas` does not name.",
    )
    tenant_quotas: dict[str, float] = Field(
        default={},
        description="Entries a second of single tenants, instead of `tenant_entries_per_s`; 0 is no limit.",
    )
    tenant_burst_s: float = Field(
        default=2.0,
        ge=0.1,
        le=600,
        description="A tenant that was quiet may send what this many seconds of its quota allow at once.",
    )
    host: str = Field(default="127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    port: int = Field(
        default=8022, ge=0, le=65_535, description="Port of /metrics and /healthz; 0 switches the server off."
    )

    def quota_of(self, tenant: str) -> float:
        """Entries a second that a tenant may send; 0: no limit."""
        return self.tenant_quotas.get(tenant, self.tenant_entries_per_s)
