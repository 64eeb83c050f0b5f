"""What a run of `headrace dev --duration` proved: delivered against committed, id by id; windows against a recount."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from headrace.devkit.ledger import Committed, Received


@dataclass(frozen=True)
class Delivery:
    """How the received messages compare with the committed order events."""

    committed: int
    delivered: int
    lost: int
    duplicated: int
    out_of_order: int
    latencies_ms: tuple[float, ...]


def compare_delivery(committed: Iterable[Committed], received: Sequence[Received]) -> Delivery:
    """Compare what a client received with what was committed.

    Order events are pushed one to one, so each must come exactly once, and each order's events in the order of their
    commits. Any logged message (one with an SSE id) that comes twice is a duplicate, whatever it is. A message that
    nobody committed in this run (left over from an earlier one in the same data directory) is neither.
    """
    orders = {event.push_id: event for event in committed if event.kind == "order"}
    first: dict[str, float] = {}
    newest_seq: dict[tuple[str, str], int] = {}
    out_of_order = 0
    for message in received:
        event = orders.get(message.push_id)
        if event is None or event.tenant != message.tenant or message.push_id in first:
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
        latencies_ms=tuple((first[key] - event.committed_s) * 1000 for key, event in orders.items() if key in first),
    )


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
    tool_events: int
    windows_checked: int
    windows_wrong: int
    commit_to_client_ms: Mapping[str, float | None]
    alerts_raised: int
    alerts_resolved: int
    restarts: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """A plain object, in the order of the fields."""
        return asdict(self)

    @property
    def faults(self) -> int:
        """What must be 0: lost, duplicated, out_of_order and windows_wrong together."""
        return self.lost + self.duplicated + self.out_of_order + self.windows_wrong
