"""Alerts, as they begin and end. The same `alert_id` stands in both."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from contracts.fields import Id, Milliseconds, Moment, Tenant

Severity = Literal["warning", "critical"]
# Name, subject and start in one.
AlertId = Annotated[str, msgspec.Meta(min_length=1, max_length=600)]


class AlertRaised(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="alert_raised"):
    """A limit was broken for long enough.

    `value_ms` is the reading at that moment, `threshold_ms` the limit, `playbook` what to read first.
    """

    EVENT: ClassVar[str] = "alert_raised"

    version: str
    tenant_id: Tenant
    ts: Moment
    alert_id: AlertId
    name: Id
    subject: Id
    severity: Severity
    value_ms: Milliseconds
    threshold_ms: Milliseconds
    started_at: Moment
    playbook: str
    labels: dict[str, str]


class AlertResolved(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="alert_resolved"
):
    """An alert that was raised is over since `resolved_at`; the other fields as in AlertRaised."""

    EVENT: ClassVar[str] = "alert_resolved"

    version: str
    tenant_id: Tenant
    ts: Moment
    alert_id: AlertId
    name: Id
    subject: Id
    severity: Severity
    value_ms: Milliseconds
    threshold_ms: Milliseconds
    started_at: Moment
    resolved_at: Moment
    playbook: str
    labels: dict[str, str]


def alert_id_of(name: str, subject: str, started_ms: int) -> str:
    """The id that an alert keeps from raise to resolve; `started_ms` is milliseconds since the Unix epoch."""
    return f"{name}:{subject}:{started_ms}"
