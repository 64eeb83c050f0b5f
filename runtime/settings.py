"""Every setting of every process: frozen groups, read from the environment and a TOML file.

A field's description says its effect, its unit, why that default, and what value switches it off. The reference page
`docs/settings.md` is printed from this module (`headrace settings`), never written by hand. Environment names are
`HEADRACE_<GROUP>__<FIELD>`; the file is named by `HEADRACE_CONFIG`, else `headrace.toml` in the current folder.
The environment wins over the file, the file over the defaults.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as SourceError

from contracts.errors import SettingsError


class Group(BaseModel):
    """A frozen group of settings; unknown names are errors, so that a typing mistake is not silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
        description="How long the broker may hold an empty fetch. The embedded broker holds every fetch for all "
        "of it, "
        "so this is most of its latency: p95 was 100 ms at 500, 6 ms at 50 and 3 ms at 10.",
    )
    idempotence: bool = Field(
        default=True,
        description="Idempotent producers. false only for a broker without them (the embedded one).",
    )
    send_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Longest wait for a broker to acknowledge a record before the sender starts over.",
    )


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
    host: str = Field(default="127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    port: int = Field(
        default=8021, ge=0, le=65_535, description="Port of /metrics and /healthz; 0 switches the server off."
    )


class MirrorSettings(Group):
    """Redis Streams to Kafka."""

    batch_entries: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="Most entries of one stream in flight; bounds memory while Kafka stalls.",
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
    host: str = Field(default="127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    port: int = Field(
        default=8022, ge=0, le=65_535, description="Port of /metrics and /healthz; 0 switches the server off."
    )


class WorkerSettings(Group):
    """The Faust worker: agents and tables."""

    group: str = Field(
        default="headrace-worker",
        min_length=1,
        max_length=200,
        description="Kafka consumer group; also names the changelog topics.",
    )
    data_dir: Path = Field(
        default=Path(".headrace/worker"),
        description="Folder for local state. Each worker needs its own; two workers in one folder corrupt each other.",
    )
    host: str = Field(default="127.0.0.1", description="Address the worker's web views listen on.")
    port: int = Field(default=6066, ge=1, le=65_535, description="Port of the worker's web views, /metrics and health.")
    advertised_url: str = Field(
        default="", description="URL under which other workers and the gateway reach this one. Empty: http://host:port."
    )
    window_s: int = Field(default=10, ge=1, le=3600, description="Length of the tumbling base windows, by event time.")
    window_retention_s: int = Field(
        default=3600, ge=60, le=2_592_000, description="How long a closed window is kept in its table, by event time."
    )
    lateness_s: float = Field(
        default=2.0, ge=0, le=3600, description="A window closes once its tenant's watermark is this far past its end."
    )
    idle_close_s: float = Field(
        default=5.0,
        ge=0.5,
        le=3600,
        description="When a tenant sends nothing for this long, its watermark follows the broker's clock, so "
        "that its last windows close too.",
    )
    future_skew_s: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="An event dated further ahead of the broker's clock than this is dead-lettered.",
    )
    running_interval_s: float = Field(
        default=1.0,
        ge=0.1,
        le=60,
        description="Shortest time between two running-window messages of one tenant and tool.",
    )
    session_timeout_s: float = Field(
        default=6.0, ge=1, le=300, description="Kafka replaces a worker that has been silent for this long."
    )


class GatewaySettings(Group):
    """The delivery edge: SSE, tables, the page."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8020, ge=1, le=65_535, description="Port to listen on.")
    public_https: bool = Field(
        default=False,
        description="true when clients come over HTTPS (TLS ends in a proxy): the session cookie gets Secure and "
        "the __Host- prefix.",
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Further origins that may use the session cookie; the gateway's own origin always may."
    )
    worker_urls: tuple[str, ...] = Field(
        default=("http://127.0.0.1:6066",),
        description="Where the workers' table views are; every address that a host name resolves to is asked.",
    )
    table_timeout_s: float = Field(
        default=2.0,
        gt=0,
        le=30,
        description="Longest wait for one worker's answer; a late one is left out and the answer marked partial.",
    )
    heartbeat_s: float = Field(
        default=15.0,
        ge=1,
        le=120,
        description="Time between two comments on a quiet stream, so that proxies keep it open.",
    )
    ring_bytes: int = Field(
        default=16_777_216,
        ge=65_536,
        le=4_294_967_296,
        description="Bytes of recent messages kept in memory for each push partition.",
    )
    ring_age_s: float = Field(default=600.0, ge=1, le=86_400, description="Messages older than this leave the ring.")
    dedupe_entries: int = Field(
        default=200_000,
        ge=1000,
        le=10_000_000,
        description="Message ids remembered for each push partition, to drop repeats.",
    )
    slow_client_s: float = Field(
        default=15.0, ge=1, le=600, description="A client that takes nothing for this long is disconnected."
    )
    connections: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Most open streams; further clients are told to come back later.",
    )
    drain_s: float = Field(default=3.0, ge=0, le=120, description="On SIGTERM, clients are sent away over this time.")


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


class AlertSettings(Group):
    """The tool latency alert."""

    tool_latency_p95_ms: float = Field(
        default=1000.0, gt=0, le=600_000, description="The alert is raised when a tool's p95 in a window is above this."
    )
    clear_ratio: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="It clears below threshold * clear_ratio (hysteresis). 1 switches the gap off.",
    )
    min_count: int = Field(
        default=10, ge=1, le=1_000_000, description="Windows with fewer calls say nothing about a tool."
    )
    raise_after_s: float = Field(
        default=2.0, ge=0, le=3600, description="The breach must last this long in event time."
    )
    clear_after_s: float = Field(
        default=5.0, ge=0, le=3600, description="The recovery must last this long in event time."
    )


class Settings(BaseSettings):
    """All settings of all processes; a process reads the groups that it uses."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", env_nested_delimiter="__", frozen=True, extra="forbid", toml_file=None
    )

    prefix: str = Field(
        default="headrace",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="First part of every Redis key and Kafka topic name; `ragline` reads an existing deployment.",
    )
    contracts: ContractSettings = ContractSettings()
    log: LogSettings = LogSettings()
    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()
    kafka: KafkaSettings = KafkaSettings()
    relay: RelaySettings = RelaySettings()
    mirror: MirrorSettings = MirrorSettings()
    worker: WorkerSettings = WorkerSettings()
    gateway: GatewaySettings = GatewaySettings()
    auth: AuthSettings = AuthSettings()
    alerts: AlertSettings = AlertSettings()

    @model_validator(mode="after")
    def _limits_that_depend_on_each_other(self) -> Settings:
        if self.worker.window_retention_s < 2 * self.worker.window_s:
            msg = (
                f"worker.window_retention_s ({self.worker.window_retention_s}) must be at least "
                f"twice worker.window_s ({self.worker.window_s})"
            )
            raise ValueError(msg)
        if self.relay.idle_poll_s < self.relay.poll_s:
            msg = f"relay.idle_poll_s ({self.relay.idle_poll_s}) must not be below relay.poll_s ({self.relay.poll_s})"
            raise ValueError(msg)
        if self.redis.command_timeout_s >= self.postgres.idle_in_transaction_timeout_s:
            msg = (
                f"redis.command_timeout_s ({self.redis.command_timeout_s}) must be below "
                f"postgres.idle_in_transaction_timeout_s ({self.postgres.idle_in_transaction_timeout_s}): "
                "the relay waits for Redis inside its transaction"
            )
            raise ValueError(msg)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of the sources: arguments, environment, TOML file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())


def config_file() -> Path | None:
    """The TOML file to read: `HEADRACE_CONFIG`, else ./headrace.toml when it is there, else none."""
    named = os.environ.get("HEADRACE_CONFIG")
    if named:
        if not Path(named).is_file():
            msg = f"HEADRACE_CONFIG names {named}, which is not a file"
            raise SettingsError(msg)
        return Path(named)
    default = Path("headrace.toml")
    return default if default.is_file() else None


def load() -> Settings:
    """Read and check all settings.

    Raises:
        SettingsError: names the full path of each bad field, its limit and the value given.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']} (got {_shown(e)})" for e in error.errors()]
        raise SettingsError("; ".join(lines)) from None
    except SourceError as error:
        raise SettingsError(f"{error} (lists are written as JSON in the environment); {error.__cause__}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config_file()}: {error}") from None


def _shown(error: object) -> str:
    value = error.get("input") if isinstance(error, dict) else None
    text = "all of them" if isinstance(value, dict | BaseModel) else repr(value)
    return "a secret" if isinstance(error, dict) and "secret" in error.get("loc", ()) else text[:80]
