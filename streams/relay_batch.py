"""From outbox rows to entries, dead letters and holds. Pure.

Each payload is decoded through its contract, to learn its tenant and to keep poison out; what is published is the text
as it stands. Which row goes where is judged in `streams.relay_fate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from contracts.codec import Decoded, tenant_of
from contracts.errors import ContractError
from contracts.names import Mode, Stream, redis_stream, stream_of
from contracts.outbox import OutboxRow, decode_row, envelope_of
from streams.dead_letters import DeadLetter
from streams.redis_log import NewEntry
from streams.relay_fate import Fate, Ground, Place, Verdict, Waiting, judge, published_by_tenant

if TYPE_CHECKING:
    from runtime.settings_relay import Poison, RelaySettings

SOURCE = "relay"
# The error class of a sound row that follows a buried one of its aggregate into the dead letters.
PARKED = "Parked"


@dataclass(frozen=True, slots=True)
class Reading:
    """A claimed row and what its payload says: an event, or why it is none."""

    row: OutboxRow
    stream: Stream
    said: Decoded | ContractError


@dataclass(frozen=True)
class Batch:
    """What a number of rows become, in their order.

    `published` holds stream and creation time of each entry; `deviations` counts departures from contracts that compat
    mode forgives, by name; `refused` counts the letters by stream and error class. `holds`, `stops`, `released` and
    `lifted` are what changes in the tables of `streams.hold_table`, by row; `done` are the rows to be marked.
    """

    entries: list[NewEntry] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    published: list[tuple[Stream, datetime]] = field(default_factory=list)
    deviations: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[Stream, str]] = field(default_factory=Counter)
    done: list[int] = field(default_factory=list)
    holds: dict[int, Place] = field(default_factory=dict)
    stops: dict[int, Poison] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)
    lifted: list[int] = field(default_factory=list)
    # Published rows that had been on hold: one of them may have been requeued from the dead letters.
    returned: list[tuple[int, datetime]] = field(default_factory=list)


def read(rows: Sequence[OutboxRow], mode: Mode) -> list[Reading]:
    """Decode each row."""
    readings = []
    for row in rows:
        said: Decoded | ContractError
        try:
            said = decode_row(row, mode)
        except ContractError as error:
            said = error
        readings.append(Reading(row, stream_of(row.aggregate_type, row.event_type), said))
    return readings


def waiting(readings: Sequence[Reading], settings: RelaySettings) -> list[Waiting]:
    """The readings as `judge` takes them."""
    return [
        Waiting(
            each.row.id,
            (each.row.aggregate_type, each.row.aggregate_id),
            None if isinstance(each.said, ContractError) else tenant_of(each.said.event),
            settings.poison.get(each.stream, "skip"),
        )
        for each in readings
    ]


def wanted(rows: Sequence[Waiting], ground: Ground, paused: frozenset[str], settings: RelaySettings) -> dict[str, int]:
    """How many rows of each tenant with a quota would be published if it had none."""
    counts = published_by_tenant(rows, judge(rows, ground, paused))
    return {tenant_id: count for tenant_id, count in counts.items() if settings.quota_of(tenant_id)}


def assemble(readings: Sequence[Reading], verdicts: Sequence[Verdict], ground: Ground, prefix: str) -> Batch:
    """Put what was judged together."""
    batch = Batch()
    for reading, verdict in zip(readings, verdicts, strict=True):
        row_id = reading.row.id
        if verdict.fate is Fate.HOLD:
            if verdict.place is not None and ground.held.get(row_id) != verdict.place:
                batch.holds[row_id] = verdict.place
            continue
        batch.done.append(row_id)
        if row_id in ground.held:
            batch.released.append(row_id)
        if verdict.stop is not None:
            batch.stops[row_id] = verdict.stop
        elif row_id in ground.stopped:
            batch.lifted.append(row_id)
        if verdict.fate is Fate.PUBLISH and isinstance(reading.said, Decoded):
            _publish(batch, reading, reading.said, prefix)
            if row_id in ground.held:
                batch.returned.append((row_id, reading.row.created_at))
        else:
            _bury(batch, reading)
    return batch


def letter_of(row: OutboxRow, said: Decoded | ContractError) -> DeadLetter:
    """A row that is not published, with its bytes and the reason. A broken payload's tenant is not known."""
    broken = isinstance(said, ContractError)
    return DeadLetter(
        source=SOURCE,
        outbox_id=row.id,
        outbox_created_at=row.created_at,
        tenant_id="" if isinstance(said, ContractError) else tenant_of(said.event),
        event_type=row.event_type,
        key=row.aggregate_id.encode(),
        headers=(("aggregate_type", row.aggregate_type.encode()),),
        payload=row.payload.encode(),
        error_class=said.code if isinstance(said, ContractError) else PARKED,
        error_text=str(said) if broken else "sound, but an earlier row of its aggregate is in the dead letters",
    )


def _publish(batch: Batch, reading: Reading, decoded: Decoded, prefix: str) -> None:
    envelope = envelope_of(reading.row, decoded)
    batch.entries.append(NewEntry(redis_stream(prefix, reading.stream), envelope.dedupe_id, envelope.to_fields()))
    batch.published.append((reading.stream, reading.row.created_at))
    if decoded.deviations:
        batch.deviations.update(decoded.deviations)


def _bury(batch: Batch, reading: Reading) -> None:
    letter = letter_of(reading.row, reading.said)
    batch.letters.append(letter)
    batch.refused[reading.stream, letter.error_class] += 1
