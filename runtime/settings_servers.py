"""Settings of what all processes share: contracts, logs, the three servers, tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from runtime.settings_group import Group


class ContractSettings(Group):
    """How strictly events are checked."""

    mode: Literal["compat", "strict"] = Field(
        default="compat",
        description="strict: order_v1 and chat_tool_v1 to the letter. compat (default, because deployed products "
        "write "
        "integer ids and further statuses): such rows pass and are counted.",
    )


class LogSettings(Group):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is written."
    )
    format: Literal["json", "console"] = Field(
        default="json", description="json: one object a line, for a log store. console: aligned text, for people."
    )


class PostgresSettings(Group):
    """The database that holds the outbox, and our own schema `headrace`."""

    url: str = Field(
        default="postgresql://postgres@127.0.0.1:5432/postgres",
        description="libpq-style URL. The role needs SELECT and UPDATE on the outbox, and CREATE on the database "
        "for `headrace migrate`.",
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60, description="Longest wait for one connection attempt.")
    lock_timeout_s: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="Longest wait for a row lock before the relay gives up the batch and tries again.",
    )
    idle_in_transaction_timeout_s: float = Field(
        default=5.0,
        gt=0,
        le=300,
        description="The server ends a relay's transaction that is idle for longer, so that a frozen relay frees "
        "its rows.",
    )


class RedisSettings(Group):
    """The Redis (>= 7.0) or Valkey server that holds the streams."""

    url: str = Field(default="redis://127.0.0.1:6379/0", description="redis:// or rediss:// URL.")
    command_timeout_s: float = Field(
        default=2.0, gt=0, le=60, description="Longest wait for a reply; a slower server counts as down."
    )
    marker_ttl_s: int = Field(
        default=3600,
        ge=60,
        le=604_800,
        description="How long a published row's marker is kept after its commit. It only has to outlive a frozen "
        "relay.",
    )


class KafkaSettings(Group):
    """The Kafka cluster (or the embedded broker)."""

    bootstrap: str = Field(default="127.0.0.1:9092", description="Comma-separated host:port list.")
    partitions: int = Field(
        default=4,
        ge=1,
        le=512,
        description="Partitions of each topic that Headrace creates. It bounds the number of workers; it cannot "
        "shrink later.",
    )
    replication: int = Field(
        default=1, ge=1, le=7, description="Replicas of each topic that Headrace creates; 3 in production."
    )
    retention_hours: int = Field(default=168, ge=1, le=8760, description="How long event topics keep records.")
    fetch_max_wait_ms: int = Field(
        default=20,
        ge=1,
        le=5000,
        description="How long the broker may hold an empty fetch. The embedded broker does so even when a record "
        "comes meanwhile: on a quiet topic this is its latency. Lower values cost it and the worker idle CPU.",
    )
    fetch_pause_ms: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Least time from a fetch's answer to a worker's next request; 0, none, is right for Apache Kafka. "
        "The embedded broker takes no records while it looks for some: at 1,000 events/s, 5 ms made p95 a fifth "
        "lower.",
    )
    idempotence: bool = Field(
        default=True,
        description="Idempotent producers. false only for a broker without them (the embedded one): readers then also "
        "wait up to a second for an offset that is missing in the middle of a log.",
    )
    send_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Longest wait for a broker to acknowledge a record before the sender starts over.",
    )


class AuthSettings(Group):
    """HS256 tokens for clients."""

    secret: SecretStr = Field(
        default=SecretStr(""),
        description="Key of at least 32 bytes that signs tokens. Empty: gateway and worker refuse to start. "
        "`headrace dev` makes its own.",
    )
    issuer: str = Field(default="headrace", min_length=1, description="Required `iss` claim.")
    audience: str = Field(default="headrace-gateway", min_length=1, description="Required `aud` claim.")
    max_age_s: int = Field(
        default=86_400, ge=60, le=31_536_000, description="Longest lifetime of a token that Headrace mints."
    )
