"""What a run of `headrace dev --duration` proved: delivered against committed, id by id; windows against a recount."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from headrace.devkit.ledger import Committed, Received

ORDER = "order_status"


@dataclass(frozen=True)
class Delivery:
    """How the received messages compare with the committed order events."""

    committed: int
    delivered: int
    lost: int
    duplicated: int
    out_of_order: int
    misdelivered: int
    uncommitted: int
    latencies_ms: tuple[float, ...]


def compare_delivery(committed: Iterable[Committed], received: Sequence[Received]) -> Delivery:
    """Compare what a client received with what was committed.

    Order events are pushed one to one, so each must come exactly once, and each order's events in the order of their
    commits. Any logged message (one with an SSE id) that comes twice is a duplicate, whatever it is. One that reaches
    another tenant is misdelivered. One of this run that nobody committed is counted too; those left over from an
    earlier run in the same data directory are older than the first commit of this one, and are not.
    """
    orders = {event.push_id: event for event in committed if event.kind == "order"}
    first: dict[str, float] = {}
    newest_seq: dict[tuple[str, str], int] = {}
    began_us = min((_created_us(push_id) for push_id in orders), default=0)
    out_of_order = misdelivered = uncommitted = 0
    for message in received:
        event = orders.get(message.push_id)
        if event is None:
            uncommitted += message.type == ORDER and bool(orders) and _created_us(message.push_id) > began_us
            continue
        if event.tenant != message.tenant:
            misdelivered += 1
            continue
        if message.push_id in first:
            continue
        first[message.push_id] = message.received_s
        order = (event.tenant, event.key)
        if event.seq < newest_seq.get(order, -1):
            out_of_order += 1
        newest_seq[order] = max(event.seq, newest_seq.get(order, -1))
    logged = Counter((m.tenant, m.push_id) for m in received if m.sse_id is not None)
    return Delivery(
        committed=len(orders),
        delivered=len(first),
        lost=len(orders) - len(first),
        duplicated=sum(count - 1 for count in logged.values()),
        out_of_order=out_of_order,
        misdelivered=misdelivered,
        uncommitted=uncommitted,
        latencies_ms=tuple((first[key] - event.committed_s) * 1000 for key, event in orders.items() if key in first),
    )


def _created_us(push_id: str) -> int:
    """When the outbox row of an order's message was written: ids are ob-<row>-<microseconds since the epoch>."""
    return int(push_id.rpartition("-")[2])


def percentiles_ms(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p95 and p99 (nearest rank, ms, one decimal); None without values."""
    ordered = sorted(values)
    return {
        f"p{percent}": round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 1) if ordered else None
        for percent in (50, 95, 99)
    }


@dataclass(frozen=True)
class Report:
    """The JSON object of a run; `commit_to_client_ms` covers order events, `restarts` is by child."""

    startup_s: float
    committed: int
    rolled_back: int
    delivered: int
    lost: int
    duplicated: int
    out_of_order: int
    misdelivered: int
    uncommitted: int
    tool_events: int
    windows_checked: int
    windows_wrong: int
    pushed_wrong: int
    commit_to_client_ms: Mapping[str, float | None]
    alerts_raised: int
    alerts_resolved: int
    restarts: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """A plain object, in the order of the fields."""
        return asdict(self)

    @property
    def faults(self) -> int:
        """What must be 0, added up."""
        delivery = self.lost + self.duplicated + self.out_of_order + self.misdelivered + self.uncommitted
        return delivery + self.windows_wrong + self.pushed_wrong
