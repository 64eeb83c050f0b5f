"""From outbox rows to entries and dead letters. Pure.

Each payload is decoded through its contract, to learn its tenant and to keep poison out; what is published is the text
as it stands. A row that breaks its contract is buried alone: the rows around it go on, also those of its aggregate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from contracts.errors import ContractError
from contracts.names import Mode, Stream, redis_stream, stream_of
from contracts.outbox import OutboxRow, decode_row, envelope_of
from streams.dead_letters import DeadLetter
from streams.redis_log import NewEntry

SOURCE = "relay"


@dataclass(frozen=True)
class Batch:
    """What a number of rows become, in their order.

    `published` holds stream and creation time of each entry; `deviations` counts departures from contracts that compat
    mode forgives, by name; `refused` counts the letters by stream and error class.
    """

    entries: list[NewEntry] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    published: list[tuple[Stream, datetime]] = field(default_factory=list)
    deviations: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[Stream, str]] = field(default_factory=Counter)


def prepare(rows: Sequence[OutboxRow], *, mode: Mode, prefix: str) -> Batch:
    """Sort rows into entries and letters."""
    batch = Batch()
    for row in rows:
        stream = stream_of(row.aggregate_type, row.event_type)
        try:
            decoded = decode_row(row, mode)
        except ContractError as error:
            batch.letters.append(letter_of(row, error))
            batch.refused[stream, error.code] += 1
            continue
        envelope = envelope_of(row, decoded)
        batch.entries.append(NewEntry(redis_stream(prefix, stream), envelope.dedupe_id, envelope.to_fields()))
        batch.published.append((stream, row.created_at))
        batch.deviations.update(decoded.deviations)
    return batch


def letter_of(row: OutboxRow, error: ContractError) -> DeadLetter:
    """A row that cannot be published, with its bytes and the reason. Its tenant is not known: the payload says it."""
    return DeadLetter(
        source=SOURCE,
        outbox_id=row.id,
        outbox_created_at=row.created_at,
        tenant_id="",
        event_type=row.event_type,
        key=row.aggregate_id.encode(),
        headers=(("aggregate_type", row.aggregate_type.encode()),),
        payload=row.payload.encode(),
        error_class=error.code,
        error_text=str(error),
    )
