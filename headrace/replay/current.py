"""The rows that a table has now, read from its changelog: what is durable, whether a worker runs or not."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from streams.records import Partition
from tables.row_codec import RowCodec
from tables.rows import WindowKey, newest, scan_bounds

if TYPE_CHECKING:
    from contracts.names import TenantId
    from streams.log_range import LogRange, Span
    from tables.fold import TableKind
    from tables.recompute import TimeRange


async def rows_of(
    log: LogRange,
    place: Partition,
    span: Span,
    kind: TableKind[Any, Any],
    wanted: TimeRange,
    tenant_id: TenantId | None,
) -> dict[WindowKey, bytes]:
    """The rows of one changelog partition whose windows lie in a range, as recovery would restore them."""
    lower, upper = scan_bounds(kind.kind, len(kind.parts), wanted.from_ms, wanted.to_ms)
    codec: RowCodec[Any] = RowCodec(kind)
    held: dict[bytes, bytes] = {}
    async with aclosing(log.read(place, *span)) as chunks:
        async for chunk in chunks:
            for index, value in enumerate(chunk.values):
                key = chunk.record(index).key or b""
                if lower <= key < upper:
                    if value is None:
                        held.pop(key, None)
                    else:
                        held[key] = newest(held.get(key), value)
    decoded = {codec.decode_key(key): raw for key, raw in held.items()}
    return {key: raw for key, raw in decoded.items() if key is not None and tenant_id in (None, key.tenant_id)}
