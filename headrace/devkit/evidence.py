"""What a run has shown so far: both ledgers, read while they grow, and what `headrace dev` asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headrace.devkit.ledger import Committed, LedgerReader, Received
from headrace.devkit.recount import Call, WindowKey, row_key

ALERT_RAISED = "alert_raised"
ALERT_RESOLVED = "alert_resolved"


class Evidence:
    """Call `refresh`, then ask. Everything is kept in memory: about 300 bytes an event."""

    def __init__(self, shop_ledger: Path, listener_ledger: Path) -> None:
        self._shop = LedgerReader(shop_ledger)
        self._listener = LedgerReader(listener_ledger)
        self.committed: list[Committed] = []
        self.received: list[Received] = []
        self.rolled_back = 0
        self.gaps = 0
        self.shop_ended = False
        self.connected: set[str] = set()
        self.first_order_s: float | None = None
        self._closed: dict[WindowKey, Mapping[str, object]] = {}
        self._undelivered: set[str] = set()
        self._early: set[str] = set()

    def refresh(self) -> None:
        """Take in what both wrote since the last call."""
        for line in self._shop.new():
            self._take_shop(line)
        for line in self._listener.new():
            self._take_listener(line)

    @property
    def undelivered(self) -> int:
        """Committed order events that no client has received yet."""
        return len(self._undelivered)

    @property
    def calls(self) -> list[Call]:
        """The committed tool calls."""
        return [
            Call(event.tenant, event.key, event.event_ms, event.latency_ms, error=event.error)
            for event in self.committed
            if event.latency_ms is not None
        ]

    @property
    def closed_windows(self) -> list[Mapping[str, object]]:
        """Each closed window of tool latency as it was pushed last: its newest revision."""
        return list(self._closed.values())

    def alerts(self, kind: str) -> int:
        """How many different alerts of this kind were pushed."""
        return len({(m.tenant, m.push_id) for m in self.received if m.type == kind})

    def _take_shop(self, line: Mapping[str, object]) -> None:
        kind = line["kind"]
        if kind == "rolled_back":
            self.rolled_back += 1
        elif kind == "end":
            self.shop_ended = True
        else:
            event = Committed(**line)  # type: ignore[arg-type] # a line of our own shop, field by field
            self.committed.append(event)
            if event.kind == "order" and event.push_id not in self._early:
                self._undelivered.add(event.push_id)

    def _take_listener(self, line: Mapping[str, object]) -> None:
        kind = line["kind"]
        if kind == "ready":
            self.connected.add(str(line["tenant"]))
        elif kind == "gap":
            self.gaps += 1
        elif kind == "window":
            row: Mapping[str, object] = line["row"]  # type: ignore[assignment] # a line of our own listener
            key = row_key(row)
            if _revision(row) >= _revision(self._closed.get(key, {})):
                self._closed[key] = row
        elif kind == "message":
            message = Received(**{name: value for name, value in line.items() if name != "kind"})  # type: ignore[arg-type]
            self.received.append(message)
            # A fast message may be read before the shop's own line about it.
            self._early.add(message.push_id)
            self._undelivered.discard(message.push_id)
            if self.first_order_s is None and message.channel.startswith("orders:"):
                self.first_order_s = message.received_s


def _revision(row: Mapping[str, object]) -> int:
    return int(str(row.get("revision", 0)))
