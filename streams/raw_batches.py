"""Whole record batches out of aiokafka, without a Python object for each record.

Where it stands: between aiokafka's fetcher and `streams.batches`. aiokafka makes a ConsumerRecord of every record,
which costs about a microsecond; its compiled batches give the same at a tenth of that.

It leans on private names of aiokafka 0.14 (fetcher.py: FetchResult, PartitionRecords._unpack_records,
Fetcher.fetched_records). `missing_names` says which of them are gone; then `streams.batches` reads the stock way.
tests/unit/streams/test_raw_batches.py fails when one of these functions changes.

The rules are those of PartitionRecords._unpack_records: a batch with a bad checksum is never handed out; aborted
transactions and control batches are skipped; records below the position (a compressed batch begins before it) too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch

from streams.record_chunk import Run

if TYPE_CHECKING:
    from streams.gaps import Gaps

_NAMES = {
    fetcher.FetchResult: ("check_assignment", "has_more", "_update_position"),
    fetcher.PartitionRecords: ("_consume_aborted_up_to", "_contains_abort_marker", "_unpack_records"),
    fetcher.Fetcher: ("fetched_records", "_notify", "_create_fetch_waiter"),
    DefaultRecordBatch: ("max_timestamp", "next_offset", "base_offset", "validate_crc", "is_control_batch"),
}
_ATTRIBUTES = (
    "_aborted_producers",
    "_check_crcs",
    "_isolation_level",
    "_partition_records",
    "_records",
    "_subscriptions",
    "_wait_consume_future",
    "next_fetch_offset",
)


def missing_names() -> list[str]:
    """The private names of aiokafka that this module needs and that are not there."""
    gone = [f"{owner.__name__}.{name}" for owner, names in _NAMES.items() for name in names if not hasattr(owner, name)]
    code = {
        name
        for owner in (fetcher.Fetcher, fetcher.PartitionRecords, fetcher.FetchResult)
        for function in vars(owner).values()
        if callable(function) and hasattr(function, "__code__")
        for name in function.__code__.co_names
    }
    return gone + [name for name in _ATTRIBUTES if name not in code]


def drained(source: Any, partition: Any, gaps: Gaps | None = None) -> list[Run] | None:  # noqa: ANN401 - aiokafka has no types
    """Everything that the fetcher `source` holds of one partition, as one run for each record batch.

    None when it holds an error for that partition, which the stock reader is to raise. What stands behind one of the
    `gaps` is left: the next fetch begins with it.

    Raises:
        CorruptRecordException: the first batch is damaged; those before a damaged one are handed out first.
    """
    result = source._records[partition]  # noqa: SLF001
    if type(result) is not fetcher.FetchResult:
        return None
    runs: list[Run] = []
    if result.check_assignment(partition) and result.has_more():
        try:
            records, check_crcs = result._partition_records, source._check_crcs  # noqa: SLF001
            runs = list(each_run(records, partition, check_crcs=check_crcs, gaps=gaps))
        except CorruptRecordException:
            # The position stays before it, so that the next fetch brings it again: it may be whole then.
            _let_go(source, partition)
            raise
        result._update_position()  # noqa: SLF001
    result._partition_records = None  # noqa: SLF001
    _let_go(source, partition)
    return runs


def _let_go(source: Any, partition: Any) -> None:  # noqa: ANN401
    """Let the fetcher ask for this partition again."""
    del source._records[partition]  # noqa: SLF001
    source._notify(source._wait_consume_future)  # noqa: SLF001


def each_run(records: Any, partition: Any, *, check_crcs: bool, gaps: Gaps | None = None) -> Iterator[Run]:  # noqa: ANN401
    """Each batch of a PartitionRecords as a run, up to a gap that is waited for.

    Raises CorruptRecordException when the first one is damaged.
    """
    (topic, number), batches, handed_out = partition, records._records, False  # noqa: SLF001
    while batches.has_next():
        batch = batches.next_batch()
        if check_crcs and not batch.validate_crc():
            if handed_out:
                return  # the position stays before it: the next fetch begins with it
            raise CorruptRecordException(f"Invalid CRC - {partition}")
        position = records.next_fetch_offset
        if gaps is not None and not gaps.may_take(topic, number, position, batch.base_offset):
            return
        if not _skipped(records, batch):
            found = list(batch)
            if found and found[0].offset < position:
                found = [record for record in found if record.offset >= position]
            if found:
                handed_out = True
                yield Run(found, _newest_ms(batch, found))
        records.next_fetch_offset = batch.next_offset


def _skipped(records: Any, batch: Any) -> bool:  # noqa: ANN401
    """Whether a batch is a marker or of an aborted transaction; notes what it says of transactions."""
    if records._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:  # noqa: SLF001
        records._consume_aborted_up_to(batch.base_offset)  # noqa: SLF001
        if batch.is_control_batch and records._contains_abort_marker(batch):  # noqa: SLF001
            records._aborted_producers.discard(batch.producer_id)  # noqa: SLF001
        if batch.is_transactional and batch.producer_id in records._aborted_producers:  # noqa: SLF001
            return True
    return bool(batch.is_control_batch)


def _newest_ms(batch: Any, found: list[Any]) -> int:  # noqa: ANN401
    """Message formats below 2 say it for each record only."""
    newest = getattr(batch, "max_timestamp", None)
    return int(newest) if newest is not None else max(record.timestamp or 0 for record in found)
