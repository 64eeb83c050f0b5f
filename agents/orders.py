"""Orders to browsers: each order event becomes one message on its tenant's push log, as it came.

Where it stands: `agents.runner` hands it records of the orders topic; the next stop is `contracts.push`. It keeps no
state. A record that comes again makes the same message with the same id, which the gateway drops; so does a dead letter
that comes back twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.come_back import CameBack, Letter
from agents.effects import Effects, Prompt
from agents.records import Names, letter_of, push_record, source_of
from contracts import envelope, push
from contracts.errors import ContractError, UnknownEvent
from contracts.names import Consumer, Topic
from contracts.orders import OrderStatus
from contracts.outbox import decode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.host import AgentHost
    from contracts.names import Mode
    from runtime.clock import Clock
    from streams.dead_letters import DeadLetter, Recovered
    from streams.kafka_log import Outgoing
    from streams.record_chunk import RecordChunk, SourceRecord
    from tables.store import Change

NAME = Consumer.ORDERS.value


def register(host: AgentHost) -> None:
    """Attach the agent."""
    names, mode = Names.of(host.settings), host.settings.contracts.mode
    host.attach(
        NAME,
        Topic.ORDERS,
        lambda _partition: OrderWork(names, mode, host.sinks.clock),
        consumer=Consumer.ORDERS,
        describe="Order events to their tenants' push logs.",
    )


class OrderWork(Prompt):
    """One partition of the orders topic."""

    def __init__(self, names: Names, mode: Mode, clock: Clock) -> None:
        self._names = names
        self._mode = mode
        self._clock = clock
        self._push: list[Outgoing] = []
        self._letters: list[DeadLetter] = []
        self._came_back = CameBack(NAME)
        self._recovered: list[Recovered] = []

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """Make a push message of each record; what does not decode becomes a dead letter."""
        del now_s
        refusals = chunk.refusals()
        for index, record in enumerate(chunk):
            try:
                if index in refusals:
                    raise refusals[index]
                self._push.append(self._message(record))
            except ContractError as error:
                self._letters.append(letter_of(record, consumer=NAME, error=error))

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        """Make the messages of dead letters that came back, as of the records that they were."""
        del now_s
        for letter in self._came_back.new(chunk):
            if not isinstance(letter, Letter):
                self._letters.append(letter)
                continue
            try:
                self._push.append(self._message(letter.record))
                self._recovered.append(letter.told)
            except ContractError as error:
                self._letters.append(letter.dead_again(NAME, error))

    def take(self, now_s: float) -> Effects:
        """All messages and letters since the last call."""
        del now_s
        effects = Effects(letters=tuple(self._letters), push=tuple(self._push), recovered=tuple(self._recovered))
        self._letters, self._push, self._recovered = [], [], []
        return effects

    def take_rows(self, now_s: float) -> Sequence[Change]:
        """There are none."""
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        """Nothing is kept."""
        del effects

    def _message(self, record: SourceRecord) -> Outgoing:
        payload = record.value or b""
        headers = envelope.from_headers(record.headers)
        event = decode_record(payload, headers, self._mode).event
        if not isinstance(event, OrderStatus):
            raise UnknownEvent(event=event.EVENT, field="event", limit="must be order_status here", value=event.EVENT)
        source = source_of(record)
        # A record of a foreign producer has no id: its place in the log names it.
        message = push.of_order(
            event, payload, dedupe_id=headers.dedupe_id or f"kf-{source}", traceparent=headers.traceparent
        )
        return push_record(self._names, message, source=source, now_ms=int(1000 * self._clock.wall_s()))
