"""Settings of the agents that tell other systems: the adapter, and the bridge to Celery."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from runtime.settings_group import Group
from runtime.settings_pools import CpuPoolSettings, IoPoolSettings
from runtime.settings_reliability import CallSettings
from runtime.settings_retry import RetrySettings


class AdapterSettings(Group):
    """Orders to a shop system over HTTP. Timeouts, retries and breaker: `dependencies.adapter`."""

    url: str = Field(
        default="",
        description="Where each order event is POSTed to, http:// or https://, without a user or password in it. "
        "Empty: there is no adapter.",
    )
    token: SecretStr = Field(
        default=SecretStr(""), description="Sent as `Authorization: Bearer`. Empty: no such header."
    )
    ca_file: str = Field(
        default="", description="PEM file of the authorities to trust for https://. Empty: the system's."
    )
    statuses: tuple[str, ...] = Field(
        default=(), description="Only orders that took one of these statuses are told. Empty: all are."
    )
    idempotent: bool = Field(
        default=True,
        description="Whether the endpoint has the effect of an Idempotency-Key once, however often it comes. false: "
        "an event whose outcome is unknown is not repeated but becomes a dead letter, for people to look at.",
    )
    connect_timeout_s: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="Longest wait for a connection, from its name to TLS; a failed one surely told nobody. Never more "
        "than nine tenths of calls.try_timeout_s.",
    )
    keepalive_s: float = Field(
        default=15.0,
        ge=0,
        le=3600,
        description="An idle connection is kept for this long; below what the endpoint keeps it, else calls meet "
        "connections that it has just closed. 0, or idempotent=false: a new one for each call.",
    )
    dns_cache_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="How long addresses are remembered, so that a fail-over by name is followed. 0: not at all.",
    )
    answer_bytes: int = Field(
        default=65_536, ge=1024, le=16_777_216, description="Most bytes of an answer that are read."
    )
    pool: IoPoolSettings = Field(
        default=IoPoolSettings(), description="How many calls of a worker are under way at once, over all partitions."
    )
    retries: RetrySettings = Field(
        default=RetrySettings(), description="What is done about an order that could not be told within seconds."
    )

    @field_validator("url")
    @classmethod
    def _is_an_endpoint(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        # Asking for a port that is none raises.
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            msg = "must begin with http:// or https:// and name a host"
            raise ValueError(msg)
        if not value.isprintable() or " " in value:
            msg = "must not hold spaces or line ends: write them as %20, %0A"
            raise ValueError(msg)
        if parts.username is not None or parts.password is not None:
            msg = "must not hold a user or password: use adapter.token"
            raise ValueError(msg)
        return value

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not (text.isascii() and text.isprintable() and " " not in text):
            msg = "must be printable ASCII without spaces or line ends: it goes into a header"
            raise ValueError(msg)
        return value

    def check_with(self, calls: CallSettings) -> None:
        """Check that a call's own limits come before the last resort, which cannot tell how far it got.

        Raises:
            ValueError: the message has the paths and values.
        """
        own_s = self.pool.wait_s + calls.deadline_s
        if self.url and own_s >= self.retries.call_timeout_s:
            msg = (
                f"adapter.retries.call_timeout_s ({self.retries.call_timeout_s}) must be above adapter.pool.wait_s + "
                f"dependencies.adapter.calls.deadline_s ({own_s})"
            )
            raise ValueError(msg)


class TaskPoolSettings(CpuPoolSettings):
    """Children that speak Celery: short tasks, so each child does many."""

    tasks_per_child: int = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="A child is replaced after about so many sends and looks. 0 switches this off.",
    )


class TaskRetrySettings(RetrySettings):
    """Retries of events whose task is waited for."""

    call_timeout_s: float = Field(
        default=120.0,
        gt=0,
        le=7200,
        description="An event that takes longer is given up, and counts as failed. Above wait_s and what comes before "
        "it, so that this is the last resort.",
    )


class TaskSettings(Group):
    """Events to existing Celery tasks (`pip install headrace[celery]`). Timeouts and breaker: `dependencies.tasks`."""

    broker_url: SecretStr = Field(
        default=SecretStr(""), description="Celery's broker, such as redis://host:6379/0. Empty: there is no bridge."
    )
    result_url: SecretStr = Field(
        default=SecretStr(""),
        description="Celery's store of results. With it an event counts when its task has succeeded, and a task that "
        "failed is a dead letter. Empty: an event counts when the broker has its task, and what becomes of that is "
        "Celery's affair.",
    )
    topic: Literal["orders", "tools", "rag", "experiments", "voice"] = Field(
        default="orders", description="The topic whose events start tasks."
    )
    routes: dict[str, str] = Field(
        default={},
        description="The task of each event type; it is called with the event as its only argument. Events of other "
        'types start none. `{"order_status": "shop.tasks.order_changed"}`',
    )
    queue: str = Field(default="", description="Celery's queue. Empty: Celery's own choice.")
    broker_timeout_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="Longest wait for one answer of the broker or the store of results; a try needs one of each, "
        "within calls.try_timeout_s.",
    )
    wait_s: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="Longest wait for a task's end. Then it is asked about again later, and sent again unless a worker "
        "has said that it is at it (which Celery workers do with task_track_started). Only with result_url.",
    )
    poll_s: float = Field(
        default=0.2, gt=0, le=60, description="Time between two looks at the results of all tasks under way."
    )
    pool: TaskPoolSettings = Field(
        default=TaskPoolSettings(),
        description="Children that speak Celery. Its client blocks, and can hang for ever: then its child is replaced.",
    )
    retries: TaskRetrySettings = Field(
        default=TaskRetrySettings(),
        description="What is done about an event whose task could not be sent, or did not end.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.broker_url.get_secret_value() and not self.routes:
            msg = "tasks.routes must name the task of at least one event type when tasks.broker_url is set"
            raise ValueError(msg)
        return self

    @field_validator("result_url")
    @classmethod
    def _can_be_asked(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().startswith("rpc"):
            msg = "must be a store that any process can ask, such as redis://; rpc:// tells only the one that sent"
            raise ValueError(msg)
        return value

    def check_with(self, calls: CallSettings) -> None:
        """Check limits that depend on each other.

        Raises:
            ValueError: the message has the paths and values.
        """
        own_s = self.wait_s + calls.deadline_s + self.pool.start_timeout_s
        if self.broker_url.get_secret_value() and own_s >= self.retries.call_timeout_s:
            msg = (
                f"tasks.retries.call_timeout_s ({self.retries.call_timeout_s}) must be above tasks.wait_s + "
                f"dependencies.tasks.calls.deadline_s + tasks.pool.start_timeout_s ({own_s})"
            )
            raise ValueError(msg)
