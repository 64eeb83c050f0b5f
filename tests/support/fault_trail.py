"""Where an order event that never reached the client was last seen, with its neighbours: the first thing to look at.

ob-7-1700…: orders/2 at 118 (12:00:01.250); not in push, where orders/2 at 117 is push/0 at 96, orders/2 at 119 is …
ob-7-1700…: orders/2 at 118 (…); push/0 at 97 (…); the tenant's client had push/0 at 96, then push/0 at 98
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from headrace.devkit.ledger import Received
from streams.kafka_log import Record

Partitions = Sequence[Sequence[Record]]


class Trail:
    """Looks through the orders topic, the push topic and what the client got."""

    def __init__(self, orders: Partitions, push: Partitions, received: Sequence[Received]) -> None:
        self._orders = {_header(record, "ce_id"): record for records in orders for record in records}
        self._push = [record for records in push for record in records]
        self._offsets: dict[tuple[str, int], list[int]] = {}
        for message in received:
            if message.sse_id is not None:
                partition, offset = message.sse_id.partition(".")[2].split("-")
                self._offsets.setdefault((message.tenant, int(partition)), []).append(int(offset))

    def of(self, identity: str) -> str:
        """One line about one id."""
        order = self._orders.get(identity)
        if order is None:
            return f"{identity}: not in the orders topic"
        pushed = [record for record in self._push if _header(record, "pid") == identity]
        if pushed:
            return f"{identity}: {_place(order)}; {'; '.join(map(self._delivery, pushed))}"
        near = {f"{order.topic}/{order.partition}/{order.offset + step}" for step in (-2, -1, 1, 2)}
        beside = [f"{_header(r, 'src')} is {_place(r)}" for r in self._push if _header(r, "src") in near]
        return f"{identity}: {_place(order)}; not in push, where {', '.join(beside) or 'its neighbours are not either'}"

    def _delivery(self, record: Record) -> str:
        got = self._offsets.get(((record.key or b"").decode(), record.partition), [])
        before = [at for at in got if at < record.offset][-1:]
        after = [at for at in got if at > record.offset][:1]
        return f"{_place(record)}; the tenant's client had offset {before}, then {after} of it"


def _header(record: Record, name: str) -> str:
    return (dict(record.headers).get(name) or b"").decode()


def _place(record: Record) -> str:
    at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).time().isoformat("milliseconds")
    return f"{record.topic}/{record.partition} at {record.offset} ({at})"
