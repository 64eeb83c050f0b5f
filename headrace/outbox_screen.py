"""The outbox and its tenants on a terminal: tables and JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from headrace.letter_screen import age
from streams.outbox_state import COUNTED_ROWS

if TYPE_CHECKING:
    from streams.outbox_state import OutboxState, Stop
    from streams.tenants import Move, TenantState

Rows = list[tuple[str, ...]]

TENANTS = ("tenant", "paused", "by", "why", "rows held", "behind letters", "oldest row")
MOVES = ("at", "by", "what", "tenant", "why")
STOPS = ("aggregate", "id", "policy", "since", "rows behind", "outbox row", "letter", "reason")
# Whose rows these are is not known, or they were requeued a moment ago.
NO_TENANT = "-"


def tenants(found: Sequence[TenantState], now: datetime) -> Rows:
    """One line for each tenant."""
    return [
        (
            each.tenant_id or NO_TENANT,
            _age(each.paused_at, now),
            each.paused_by or "",
            each.why or "",
            f"{each.held_rows:,}",
            f"{each.blocked_rows:,}",
            _age(each.oldest_at, now),
        )
        for each in found
    ]


def moves(found: Sequence[Move]) -> Rows:
    """One line for each move of the audit."""
    return [(each.at.isoformat(timespec="seconds"), each.actor, each.move, each.tenant_id, each.why) for each in found]


def stops(found: Sequence[Stop], now: datetime) -> Rows:
    """One line for each stopped aggregate."""
    return [
        (
            each.aggregate_type,
            each.aggregate_id,
            each.policy,
            age(each.stopped_at, now),
            f"{each.rows_behind:,}",
            str(each.outbox_id),
            "purged" if each.letter_id is None else str(each.letter_id),
            each.error_class or "",
        )
        for each in found
    ]


def state(found: OutboxState, now: datetime) -> Rows:
    """One line for each fact."""
    rewound = f"{found.rewinds:,}" + (f", last {age(found.rewound_at, now)}" if found.rewound_at else "")
    return [
        ("waiting to be published", _count(found.waiting_rows)),
        ("the oldest of them", f"{found.oldest_s:,.1f} s"),
        ("on hold for their tenant", _count(found.held_rows)),
        ("on hold behind a dead letter", _count(found.blocked_rows)),
        ("Redis was exchanged", rewound),
        ("Redis was last looked at", _age(found.noted_at, now) or "never: no relay has run"),
    ]


def as_json(facts: OutboxState | Stop | Move | TenantState) -> dict[str, object]:
    """The same facts for programs; times in ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts._asdict().items()
    }


def _count(rows: int) -> str:
    return f"{rows:,}" if rows < COUNTED_ROWS else f"{COUNTED_ROWS - 1:,} or more"


def _age(at: datetime | None, now: datetime) -> str:
    return "" if at is None else age(at, now)
