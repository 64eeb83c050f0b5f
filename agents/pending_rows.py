"""Records that wait for another try, as rows of their consumer's table. Pure.

Where it stands: `agents.effect_work` writes one for each record that is to run later, and deletes it when the record is
done or buried; its successor takes them up again. So a retry outlives the worker, and delays need no topics of their
own. They are rows like others (`tables.rows`):

    key    ["later", 0, tenant, aggregate, place]    place: position, 20 digits, "/", incarnation
    value  [format, version, 0, tries, first_ms, due_ms, letter, topic, incarnation, partition, offset, timestamp, key,
            headers, value]

A row's version rises with each try and each requeue, so that of two the newer one wins. `letter` is the dead letter
that the record is, [] for none. A row whose `due_ms` is DONE stands for a requeued record that is done, and whose
letter is still to be told so: a crash in between must not do it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from agents.lanes import Item, Place
from contracts.names import TenantId
from contracts.requeue import Origin
from streams.record_chunk import SourceRecord
from tables.formats import check_format
from tables.rows import WindowKey, decode_key, encode_key

if TYPE_CHECKING:
    from tables.store import Change

KIND = "later"
FORMAT = 1
DONE = -1


class _Row(msgspec.Struct, array_like=True, frozen=True):
    format: int
    version: int
    announced: int
    tries: int
    first_ms: int
    due_ms: int
    letter: list[int]
    topic: str
    incarnation: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes | None


_decode = msgspec.msgpack.Decoder(_Row).decode


def key_of(item: Item) -> bytes:
    """The key of a record's row."""
    tenant, aggregate = item.lane[:2]
    position, incarnation = item.place
    subject = (aggregate, f"{position:020d}/{incarnation}")
    return encode_key(KIND, WindowKey(TenantId(tenant), subject, 0))


def written(item: Item, record: SourceRecord, *, done: bool = False) -> Change:
    """A record's row."""
    letter = item.letter
    row = _Row(
        FORMAT,
        (0 if letter is None else letter[1]) + item.tries,
        0,
        item.tries,
        item.first_ms,
        DONE if done else item.due_ms,
        [] if letter is None else list(letter),
        item.origin.topic,
        item.origin.incarnation,
        item.origin.partition,
        item.origin.offset,
        record.timestamp,
        record.key,
        list(record.headers),
        record.value,
    )
    return key_of(item), msgspec.msgpack.encode(row)


def record_of(raw: bytes) -> SourceRecord:
    """The record that a row keeps, as it first stood."""
    row = _decode(raw)
    return SourceRecord(row.topic, row.partition, row.offset, row.timestamp, row.key, row.value, row.headers)


def item_of(key: bytes, raw: bytes, *, ordered: bool) -> tuple[Item, bool] | None:
    """What waits, and whether it is done; None for a row of another kind.

    Raises:
        ValueError: the row's format has another meaning here.
    """
    kind, (tenant, (aggregate, *rest), _start_ms) = decode_key(key)
    if kind != KIND:
        return None
    row = _decode(raw)
    check_format("a row of a waiting record", row.format, FORMAT)
    position, _, incarnation = rest[0].partition("/")
    place = Place(int(position), incarnation)
    item = Item(
        lane_of(tenant, aggregate, place, ordered=ordered),
        place,
        Origin(row.topic, row.incarnation, row.partition, row.offset),
        None,
        tries=row.tries,
        first_ms=row.first_ms,
        due_ms=max(0, row.due_ms),
        letter=_letter(row.letter),
        stored=True,
    )
    return item, row.due_ms == DONE


def lane_of(tenant: str, aggregate: str, place: Place, *, ordered: bool) -> tuple[str, ...]:
    """The lane of a record: its aggregate's, or its own where no order is kept."""
    return (tenant, aggregate) if ordered else (tenant, aggregate, f"{place.position}/{place.incarnation}")


def _letter(numbers: Sequence[int]) -> tuple[int, int] | None:
    return (numbers[0], numbers[1]) if numbers else None
