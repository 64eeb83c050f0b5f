"""Orders to browsers: each order event becomes one message on its tenant's push log, as it came.

Where it stands: `agents.runner` hands it records of the orders topic; the next stop is `contracts.push`. It keeps no
state. A record that comes again makes the same message with the same id, which the gateway drops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.effects import Effects
from agents.records import Names, letter_of, push_record, source_of
from contracts import envelope, push
from contracts.codec import decode
from contracts.errors import ContractError, UnknownEvent
from contracts.modes import Around
from contracts.names import KEY_SEPARATOR, Topic
from contracts.orders import OrderStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.effects import SourceRecord
    from agents.host import AgentHost
    from contracts.envelope import RecordHeaders
    from contracts.names import Mode
    from runtime.clock import Clock
    from streams.dead_letters import DeadLetter
    from streams.kafka_log import Outgoing

NAME = "orders"


def register(host: AgentHost) -> None:
    """Attach the agent."""
    names, mode = Names.of(host.settings), host.settings.contracts.mode
    host.attach(
        NAME,
        Topic.ORDERS,
        lambda _partition: OrderWork(names, mode, host.sinks.clock),
        describe="Order events to their tenants' push logs.",
    )


class OrderWork:
    """One partition of the orders topic."""

    def __init__(self, names: Names, mode: Mode, clock: Clock) -> None:
        self._names = names
        self._mode = mode
        self._clock = clock
        self._push: list[Outgoing] = []
        self._letters: list[DeadLetter] = []

    def fold(self, records: Sequence[SourceRecord], now_s: float) -> None:
        """Make a push message of each record; what does not decode becomes a dead letter."""
        del now_s
        for record in records:
            try:
                self._push.append(self._message(record))
            except ContractError as error:
                self._letters.append(letter_of(record, consumer=NAME, error=error))

    def take(self, now_s: float) -> Effects:
        """All messages and letters since the last call."""
        del now_s
        effects = Effects(letters=tuple(self._letters), push=tuple(self._push))
        self._letters, self._push = [], []
        return effects

    def settled(self, effects: Effects) -> None:
        """Nothing is kept."""
        del effects

    def _message(self, record: SourceRecord) -> Outgoing:
        payload = record.value or b""
        headers = envelope.from_headers(record.headers)
        event = decode(payload, mode=self._mode, around=_around(record, headers)).event
        if not isinstance(event, OrderStatus):
            raise UnknownEvent(event=event.EVENT, field="event", limit="must be order_status here", value=event.EVENT)
        message = push.of_order(event, payload, dedupe_id=headers.dedupe_id, traceparent=headers.traceparent)
        now_ms = int(1000 * self._clock.wall_s())
        return push_record(self._names, message, source=source_of(record), now_ms=now_ms)


def _around(record: SourceRecord, headers: RecordHeaders) -> Around:
    """What compat mode may take from around a payload that the ordering product wrote without a contract."""
    _tenant, _, order_id = (record.key or b"").decode(errors="replace").partition(KEY_SEPARATOR)
    return Around(headers.event_type, "order", order_id, headers.created_at)
