"""Reads results of experiments from the partitions at hand, merged. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec

from tables.ab_results import ASSIGNED, PARTS, AbState
from tables.row_codec import Row, RowCodec

if TYPE_CHECKING:
    from contracts.names import TenantId
    from tables.fold import TableKind
    from tables.rows import Subject
    from tables.scanning import Rows

# A tenth of a second of reading: 12 partitions of 10 arms with 40 metrics.
MOST_ROWS = 5000

_encode = msgspec.msgpack.encode


def rows_of(
    kind: TableKind[AbState],
    rows: Rows,
    partitions: Iterable[int],
    tenant_id: TenantId,
    experiment: str,
    epoch: int,
    metrics: Collection[str],
    most_rows: int = MOST_ROWS,
) -> dict[Subject, Row[AbState]]:
    """The rows of all arms for some metrics, and their rows of assignments.

    With ASSIGNED among the metrics all are told: each is over the units that are assigned. A merged row's position is
    the sum of its shares' revisions, so that it grows when any of them changes. Nothing when more than `most_rows`
    would have to be read: the caller holds up the event loop.
    """
    codec: RowCodec[AbState] = RowCodec(kind)
    # The key's array header counts all of its parts; their bytes do not depend on it.
    head = bytes([0x90 + 3 + len(PARTS)])
    prefix = head + b"".join(map(_encode, (kind.kind, 0, tenant_id, experiment, str(epoch))))
    merged: dict[Subject, Row[AbState]] = {}
    read = 0
    for partition in partitions:
        # Behind the prefix stands a text, whose first byte is below ff.
        for raw_key, raw in rows.scan(partition, prefix, prefix + b"\xff"):
            key = codec.decode_key(raw_key)
            if key is None or not (ASSIGNED in metrics or key.subject[-1] in (ASSIGNED, *metrics)):
                continue
            read += 1
            if read > most_rows:
                return {}
            row = codec.decode(raw)
            held = merged.get(key.subject, Row(kind.fold.empty(), 0))
            merged[key.subject] = Row(kind.fold.merge(held.state, row.state), held.position + row.revision)
    return merged
