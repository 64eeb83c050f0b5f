"""Settings of each process, and of the alert that the worker raises."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from runtime.settings_group import Group


def refuse_guarantee(value: str) -> None:
    """Raise ValueError for every processing guarantee but at_least_once."""
    if value != "at_least_once":
        msg = (
            f"must be at_least_once, not {value}: tables are exact on every broker by the positions in their rows, "
            "while Faust's exactly_once loses and repeats (docs/decisions/0013-no-exactly-once-of-faust.md)"
        )
        raise ValueError(msg)


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
    peer_timeout_s: float = Field(
        default=1.5,
        gt=0,
        le=30,
        description="Longest wait for another worker's rows when a query needs them; without them the answer is "
        "marked partial. Below gateway.table_timeout_s, so that the gateway gets that answer.",
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
    row_cache_bytes: int = Field(
        default=67_108_864,
        ge=1_048_576,
        le=17_179_869_184,
        description="Most bytes (estimated) of decoded rows kept for each partition of a table; rows that changed "
        "since the last flush always are.",
    )
    session_timeout_s: float = Field(
        default=6.0,
        ge=1,
        le=300,
        description="Kafka replaces a worker that has been silent for this long. Within the brokers' limits, else the "
        "worker refuses to start: group.min.session.timeout.ms is 6 s unless they were told otherwise.",
    )
    progress_timeout_s: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="When a partition has records to do and nothing was committed for this long, though no server is "
        "away, /healthz fails and soon after the process ends, so that its supervisor starts a fresh one. 0 switches "
        "this off.",
    )
    processing_guarantee: str = Field(
        default="at_least_once",
        description="Only at_least_once: row positions make the tables exact on every broker. Faust's exactly_once is "
        "refused (docs/decisions/0013).",
    )

    @field_validator("processing_guarantee")
    @classmethod
    def _only_ours(cls, value: str) -> str:
        refuse_guarantee(value)
        return value


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
        description="Where the workers' table views are; the addresses that a host name resolves to are asked in turn, "
        "until one answers for all.",
    )
    table_timeout_s: float = Field(
        default=2.0,
        gt=0,
        le=30,
        description="Longest wait for one worker's answer; then the next one is asked. Above worker.peer_timeout_s.",
    )
    control_url: str = Field(
        default="http://127.0.0.1:8023",
        description="Where the control process is; /v1/control/ is handed on to it. Empty switches that off.",
    )
    control_timeout_s: float = Field(
        default=15.0, gt=0, le=120, description="Longest wait for the control process' answer."
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
