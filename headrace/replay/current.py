"""The rows that a table has now, read from its changelog: what is durable, whether a worker runs or not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.records import Partition
from tables.incarnations import META_KEY, incarnation_after
from tables.row_codec import RowCodec
from tables.rows import WindowKey, newest, position_of, scan_bounds

if TYPE_CHECKING:
    from streams.log_range import LogRange, Span
    from tables.fold import TableKind
    from tables.recompute import Wanted


class Held(NamedTuple):
    """The rows of one partition, and the position that its offset 0 has (tables.incarnations)."""

    rows: Mapping[WindowKey, bytes]
    base: int

    def is_newer(self, key: WindowKey, read_up_to: int) -> bool:
        """Whether a row holds a record behind this offset."""
        raw = self.rows.get(key)
        return raw is not None and position_of(raw) > self.base + read_up_to


async def rows_of(
    log: LogRange, place: Partition, span: Span, kind: TableKind[Any], wanted: Wanted, incarnation: str
) -> Held:
    """The rows of one changelog partition for the windows wanted, as recovery would restore them."""
    lower, upper = scan_bounds(kind.kind, len(kind.parts), *wanted.span)
    codec: RowCodec[Any] = RowCodec(kind)
    held: dict[bytes, bytes] = {}
    async with aclosing(log.read(place, *span)) as chunks:
        async for chunk in chunks:
            for index, value in enumerate(chunk.values):
                key = chunk.record(index).key or b""
                if lower <= key < upper or key == META_KEY:
                    if value is None:
                        held.pop(key, None)
                    else:
                        held[key] = newest(held.get(key), value)
    base = incarnation_after(held.pop(META_KEY, None), incarnation).base
    decoded = {codec.decode_key(key): raw for key, raw in held.items()}
    tenant_id = wanted.tenant_id
    rows = {key: raw for key, raw in decoded.items() if key is not None and tenant_id in (None, key.tenant_id)}
    return Held(rows, base)
