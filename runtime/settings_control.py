"""Settings of the control process: the operators' API, and what it does with dead letters by itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtime.settings_group import Group

# Failures of what is beyond an event pass, most of them within a quarter of an hour: 1 + 2 + 4 + 8 minutes. An event
# that breaks its contract is the same event tomorrow, so no such class is here.
_RULES = dict.fromkeys(
    (
        *("EndpointUnreachable", "EndpointBusy", "AnswerBroken"),
        *("TaskUnfinished", "TaskTimedOut", "TaskLost"),
        *("CallTimeout", "DeadlineExceeded", "BreakerOpen", "BulkheadFull", "RateLimited", "Shed"),
    ),
    4,
)


class ControlSettings(Group):
    """The operators' API, and requeuing dead letters."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; only gateways and operators need it.")
    port: int = Field(
        default=8023, ge=1, le=65_535, description="Port of the operators' API, /metrics, /healthz and /readyz."
    )
    requeue_rate_per_s: float = Field(
        default=100.0,
        gt=0,
        le=100_000,
        description="Letters a second that one requeue sends, unless it asks for another rate. A requeue begins slowly "
        "and goes on as fast as its letters recover; this bounds it.",
    )
    requeue_letters: int = Field(
        default=10_000,
        ge=1,
        le=100_000,
        description="Most letters of one requeue, discard or purge, unless it asks for another number; the oldest "
        "first. So a filter that means more than its author thought does not move everything.",
    )
    requeue_backoff_s: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        description="Pause of a requeue whose letters die again; it doubles each time, and after eight in a row what "
        "has not left is put back.",
    )
    requeue_backoff_cap_s: float = Field(
        default=60.0, gt=0, le=86_400, description="Longest pause of a requeue whose letters die again."
    )
    requeue_rules: dict[str, Annotated[int, Field(ge=1, le=20)]] = Field(
        default=_RULES,
        description="By error class, how often a letter is requeued without an operator: `requeue_first_s` after it "
        "failed, then after twice that, and so on. Default: what fails when another service is away or slow. {} "
        "switches this off. A letter that was requeued this often, by whomever, is left to operators.",
    )
    requeue_first_s: float = Field(
        default=60.0, ge=1, le=86_400, description="Time from a letter's failure to its first requeue by a rule."
    )
    requeue_most_s: float = Field(
        default=3600.0, ge=1, le=604_800, description="Longest time from a letter's failure to its requeue by a rule."
    )
    keep_closed_days: float = Field(
        default=30.0,
        ge=0,
        le=3650,
        description="Letters that were recovered or discarded this long ago are purged, bytes and all; the audit "
        "stays. 0 keeps them for ever.",
    )
