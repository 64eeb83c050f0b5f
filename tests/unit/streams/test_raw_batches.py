"""Whole record batches give what the stock reader gives: compressed, compacted, transactional, damaged."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams import raw_batches
from streams.gaps import Gaps
from tests.support.aio import run as run_scenario
from tests.support.seams import fingerprint

PLACE = TopicPartition("t", 0)
NONE, GZIP, SNAPPY, LZ4, ZSTD = 0, 1, 2, 3, 4

# The source of what is leaned on, as it was read when our side was written. When a new aiokafka changes one: read the
# change, mend streams/raw_batches.py, then write the new number here.
SEAMS: dict[str, tuple[Callable[..., object], str]] = {
    "PartitionRecords._unpack_records": (fetcher.PartitionRecords._unpack_records, "b803e6d46480"),
    "FetchResult.getall": (fetcher.FetchResult.getall, "3e717e30de50"),
    "FetchResult.check_assignment": (fetcher.FetchResult.check_assignment, "b5340df67e3f"),
    "Fetcher.fetched_records": (fetcher.Fetcher.fetched_records, "be4348896b9b"),
}


@pytest.mark.parametrize("name", SEAMS)
def test_aiokafka_is_at_this_seam_what_our_side_was_written_for(name: str):
    function, expected = SEAMS[name]
    assert fingerprint(function) == expected, f"aiokafka {aiokafka.__version__} changed {name}: read it, then mend ours"


def test_no_private_name_is_missing_in_the_pinned_aiokafka():
    assert raw_batches.missing_names() == []


def test_a_private_name_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(fetcher.PartitionRecords, "_contains_abort_marker")
    assert "PartitionRecords._contains_abort_marker" in raw_batches.missing_names()


def batch(
    base: int,
    count: int,
    *,
    compression: int = NONE,
    skip: tuple[int, ...] = (),
    producer: int = -1,
    transactional: bool = False,
) -> bytes:
    """A record batch of offsets [base, base + count) without those of `skip` (as compaction leaves it)."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=int(transactional),
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=0 if producer >= 0 else -1,
        batch_size=1_000_000,
    )
    for delta in range(count):
        if delta not in skip:
            builder.append(delta, timestamp=1000 + base + delta, key=b"k", value=b"%d" % (base + delta), headers=[])
    return at(bytes(builder.build()), base)


def at(raw: bytes, base: int) -> bytes:
    """The same batch at another place; the checksum does not cover it."""
    return base.to_bytes(8, "big") + raw[8:]


def abort_marker(base: int, producer: int) -> bytes:
    """A control batch that says: what this producer wrote is void."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=NONE,
        is_transactional=1,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1000,
    )
    version, kind = 0, ABORT_MARKER.type_
    key = version.to_bytes(2, "big") + kind.to_bytes(2, "big")
    builder.append(0, timestamp=1, key=key, value=b"", headers=[])
    raw = bytearray(builder.build())
    raw[22] |= 0x20  # attributes: control
    return at(with_checksum(bytes(raw)), base)


def with_checksum(raw: bytes) -> bytes:
    from aiokafka.record.util import calc_crc32c_py

    checksum = int(calc_crc32c_py(raw[21:]))
    return raw[:17] + checksum.to_bytes(4, "big") + raw[21:]


def parsed(raw: bytes, *, position: int = 0, aborted: list[tuple[int, int]] | None = None) -> fetcher.PartitionRecords:
    check_crcs = True
    return fetcher.PartitionRecords(
        PLACE, MemoryRecords(raw), aborted or [], position, None, None, check_crcs, fetcher.READ_COMMITTED
    )


def stock(
    raw: bytes, *, position: int = 0, aborted: list[tuple[int, int]] | None = None
) -> tuple[list[tuple[int, bytes | None, int]], int]:
    records = parsed(raw, position=position, aborted=aborted)
    return [(r.offset, r.value, r.timestamp) for r in records], records.next_fetch_offset


def ours(
    raw: bytes, *, position: int = 0, aborted: list[tuple[int, int]] | None = None
) -> tuple[list[tuple[int, bytes | None, int]], int]:
    records = parsed(raw, position=position, aborted=aborted)
    runs = list(raw_batches.each_run(records, PLACE, check_crcs=True))
    assert all(run.newest_ms >= max(r.timestamp or 0 for r in run.records) for run in runs)
    return [(r.offset, r.value, r.timestamp or 0) for run in runs for r in run.records], records.next_fetch_offset


@pytest.mark.parametrize("compression", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
@pytest.mark.parametrize("position", [0, 3])
def test_plain_and_compressed_batches_from_any_position(compression: int, position: int):
    raw = batch(0, 5, compression=compression) + batch(5, 5, compression=compression) + batch(10, 3)
    assert ours(raw, position=position) == stock(raw, position=position)
    assert ours(raw, position=position)[0][0][0] == position


def test_compacted_batches_keep_their_gaps_and_move_the_position_past_them():
    raw = batch(0, 6, skip=(0, 2, 5)) + batch(6, 4, skip=(0, 1, 2, 3)[:3])
    assert ours(raw) == stock(raw)
    assert ours(raw)[1] == 10


def test_what_an_aborted_transaction_wrote_is_skipped_with_its_marker():
    raw = (
        batch(0, 2, producer=7, transactional=True)
        + batch(2, 2, producer=8, transactional=True)
        + abort_marker(4, 7)
        + batch(5, 2, producer=7, transactional=True)
    )
    found, position = ours(raw, aborted=[(7, 0)])
    assert [offset for offset, *_ in found] == [2, 3, 5, 6]
    assert (found, position) == stock(raw, aborted=[(7, 0)])


def test_the_old_message_formats_are_read_too():
    for magic in (0, 1):
        builder = LegacyRecordBatchBuilder(magic=magic, compression_type=NONE, batch_size=10_000)
        for offset in range(3):
            builder.append(offset, timestamp=1000 + offset, key=None, value=b"%d" % offset)
        raw = bytes(builder.build())
        assert [r[:2] for r in ours(raw)[0]] == [r[:2] for r in stock(raw)[0]]


class Held:
    """A fetcher with one answer, as far as `drained` looks at it."""

    def __init__(self, raw: bytes) -> None:
        state = SimpleNamespace(paused=False, position=0)
        state.consumed_to = lambda position: setattr(state, "position", position)
        self.state = state
        assignment = SimpleNamespace(active=True, state_value=lambda _tp: state)
        result = fetcher.FetchResult(PLACE, assignment=assignment, partition_records=parsed(raw), backoff=0)
        self._records: dict[Any, Any] = {PLACE: result}
        self._check_crcs = True
        self._wait_consume_future = None

    def _notify(self, future: object) -> None:
        del future


def test_batches_before_a_damaged_one_are_handed_out_and_the_position_stays_before_it():
    damaged = bytearray(batch(4, 4))
    damaged[-1] ^= 1
    held = Held(batch(0, 4) + bytes(damaged))
    runs = raw_batches.drained(held, PLACE)
    assert runs is not None
    assert [r.offset for run in runs for r in run.records] == [0, 1, 2, 3]
    assert held.state.position == 4


def test_batches_behind_a_gap_that_is_waited_for_are_left():
    async def scenario() -> None:
        gaps = Gaps()
        held = Held(batch(0, 4) + batch(6, 2))
        runs = raw_batches.drained(held, PLACE, gaps)
        assert runs is not None
        assert [r.offset for run in runs for r in run.records] == [0, 1, 2, 3]
        assert held.state.position == 4
        assert raw_batches.drained(Held(batch(2, 4)), PLACE, gaps) == []
        whole = raw_batches.drained(Held(batch(0, 4) + batch(4, 2) + batch(6, 2)), PLACE, gaps)
        assert whole is not None
        assert [r.offset for run in whole for r in run.records] == list(range(8))

    run_scenario(scenario())


def test_a_damaged_first_batch_is_an_error():
    damaged = bytearray(batch(0, 4))
    damaged[-1] ^= 1
    held = Held(bytes(damaged))
    with pytest.raises(CorruptRecordException):
        raw_batches.drained(held, PLACE)


def test_records_of_a_partition_that_was_sought_meanwhile_are_not_handed_out():
    held = Held(batch(0, 4))
    held.state.position = 2
    assert raw_batches.drained(held, PLACE) == []
    held = Held(batch(0, 4))
    held.state.paused = True
    assert raw_batches.drained(held, PLACE) == []


def test_an_error_is_left_for_the_stock_reader():
    held = Held(batch(0, 1))
    held._records[PLACE] = fetcher.FetchError(error=ValueError(), backoff=0)
    assert raw_batches.drained(held, PLACE) is None
    assert PLACE in held._records
