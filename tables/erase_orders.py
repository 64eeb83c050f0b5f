"""What `headrace tenants erase` and the owners of rows tell each other: orders and reports, as MessagePack. Pure.

They go over the topics that replay uses (`tables.replacement`), an order to the partition of `replacements` that has
the source partition's number. Neither is stored anywhere else: who asks repeats an order until it is reported done.

    asker                                   owner of partition n
      | -- order, owner "" ----------------> |   count the tenant's rows in each table
      | <---------------- report, counted -- |   which names the owner since it has the partition
    (reads where the sources end)            |
      | -- order, owner, ends -------------> |   erase (agents.erasable_work)
      | <----------------- report, erased -- |   when that is durable in every table

While an owner counts or erases, it answers each repetition of the order with a report that it is at it: that may take
long, a partition that drains waits for whatever its agent waits for, and who asks must not take it for gone.

The ends are read after the owner has named itself, so a former owner, frozen before that, has folded nothing behind
them. An order that names another owner is answered with a count, and the ends are read again.
"""

from __future__ import annotations

import msgspec

FORMAT = 1
_ORDER, _REPORT = "erase", "erased"


class EraseOrder(msgspec.Struct, array_like=True, frozen=True, tag=_ORDER):
    """Count a tenant's rows, or, with an owner named, erase them."""

    format: int
    job: str
    group: str
    """The worker's consumer group."""
    tenant: str
    owner: str
    ends: dict[str, tuple[str, int]]
    """By source topic: its incarnation, and the offset of the next record in this partition."""


class EraseReport(msgspec.Struct, array_like=True, frozen=True, tag=_REPORT):
    """What the owner of a partition has, or has done. `rows` by table; not `is_done`: they are counts.

    `is_under_way`: neither yet; `rows` is empty.
    """

    format: int
    job: str
    partition: int
    owner: str
    is_done: bool
    rows: dict[str, int]
    reason: str
    """Why it cannot, for people; "" when it can."""
    is_under_way: bool = False


_orders = msgspec.msgpack.Decoder(EraseOrder)
_reports = msgspec.msgpack.Decoder(EraseReport)
encode = msgspec.msgpack.encode


def is_order(raw: bytes) -> bool:
    """Whether a record of the topic of replacements is an order to erase."""
    return raw[1:7] == b"\xa5" + _ORDER.encode()


def decode_order(raw: bytes) -> EraseOrder:
    """The order. Raises ValueError for bytes that are none, or of a newer format."""
    found = _orders.decode(raw)
    _check(found.format)
    return found


def decode_report(raw: bytes) -> EraseReport:
    """The report. Raises ValueError for bytes that are none, or of a newer format."""
    found = _reports.decode(raw)
    _check(found.format)
    return found


def _check(version: int) -> None:
    if version != FORMAT:
        raise ValueError(f"an order to erase has format {version}, this release reads {FORMAT}: upgrade it")
