"""Reading a stretch of a partition outside any consumer group: whole record batches, from a time to a fixed end.

Where it stands: below `headrace replay` and `headrace archive`. It commits nothing and joins nothing, so that a live
group never notices a reader of this kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from contracts.errors import ServerMissing
from streams.epochs import LOOKBACK, Epochs
from streams.kafka_admin import Admin
from streams.kafka_connection import not_ready, patiently
from streams.kafka_log import OffsetGone
from streams.raw_batches import each_run
from streams.record_chunk import RecordChunk, Run, chunks_of
from streams.records import Partition

if TYPE_CHECKING:
    from runtime.settings import KafkaSettings

# Records in a chunk: small enough that decoding stays in the processor's cache.
CHUNK_RECORDS = 4_000
# What stands behind an open transaction is waited for this often, a fetch wait each: a minute.
_EMPTY_FETCHES = 120
_EMPTY_WAIT_MS = 500
_UNKNOWN = -1
# Turns of the loop that put the next request on the wire; folding keeps the loop for milliseconds afterwards.
_TURNS = 3


class Span(NamedTuple):
    """What a partition holds: offsets [begin, end)."""

    begin: int
    end: int


class _Answer(NamedTuple):
    runs: list[Run]
    next_offset: int
    end: int
    """Of the log, not of what may be read."""


class LogRange(Admin):
    """A connection for reading stretches; start, stop, questions and errors as of Admin."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings)
        self._kafka = settings

    async def spans(self, places: Sequence[Partition]) -> dict[Partition, Span]:
        """What each partition holds at this moment."""
        begins, ends = await self.begin_offsets(places), await self.true_end_offsets(places)
        return {place: Span(begins[place], ends[place]) for place in places}

    async def offset_at(self, place: Partition, at_ms: int, span: Span) -> int:
        """An offset before which every record of `span` is older than `at_ms`: the highest that can be relied on.

        The broker is asked, and its answer looked at: the record before it has to be older. The embedded broker's
        answers to such questions do not always hold; then the whole span is to be read. Relies on timestamps that grow
        along the log, which holds for records of one mirror as far as its clock does.
        """
        if span.begin >= span.end:
            return span.begin
        try:
            answer = (await patiently(lambda: self._list_offsets([place], at_ms)))[place]
        except ServerMissing:
            return span.begin  # no such question on this broker; if it is away, the next call says so
        found = span.end if answer == _UNKNOWN else answer
        if not span.begin <= found <= span.end:
            return span.begin
        if found > span.begin and await self.timestamp_at(place, found - 1) >= at_ms:
            return span.begin
        return found

    async def timestamp_at(self, place: Partition, offset: int) -> int:
        """The timestamp of the first record at or behind an offset that is in the log, in ms."""
        async with aclosing(self.read(place, offset, offset + 1)) as chunks:
            async for chunk in chunks:
                return chunk.record(0).timestamp
        return 0  # a marker of a transaction, which has no record: older than anything

    async def read(self, place: Partition, start: int, end: int) -> AsyncGenerator[RecordChunk, None]:
        """The records at offsets [start, end), in chunks; markers and aborted transactions are left out.

        The next fetch is under way while the caller works on a chunk. Waits up to a minute for an open transaction.

        Raises:
            OffsetGone: retention has removed the records at `start`, or the log ends before `end` (recreated).
            ServerMissing: the broker does not answer, or a transaction stays open.
        """
        async with aclosing(self._answers_of(place, start, end)) as answers:
            async for begin, runs in answers:
                for chunk in chunks_of(*place, runs, begin=begin, limit=CHUNK_RECORDS):
                    yield chunk

    async def read_counted(self, place: Partition, start: int, end: int) -> AsyncGenerator[RecordChunk, None]:
        """The same of a mirrored topic: without what a mirror's former owner sent too late, and without fences.

        What it leaves out does not depend on `start` (`streams.epochs`).
        """
        epochs: Epochs[Partition] = Epochs()
        epochs.begin(place, await self.highest_before(place, start))
        async with aclosing(self._answers_of(place, start, end)) as answers:
            async for begin, runs in answers:
                for chunk in chunks_of(*place, epochs.admit_runs(place, runs), begin=begin, limit=CHUNK_RECORDS):
                    yield chunk

    async def highest_before(self, place: Partition, offset: int) -> int:
        """The highest epoch in the LOOKBACK offsets before an offset, as far as the log reaches back; 0 for none."""
        epochs: Epochs[Partition] = Epochs()
        epochs.begin(place, 0)
        begin = max((await self.begin_offsets([place]))[place], offset - LOOKBACK)
        # Retention may remove what was to be looked at: nobody's late records stand there any more.
        with suppress(OffsetGone):
            async with aclosing(self._answers_of(place, begin, offset)) as answers:
                async for _begin, runs in answers:
                    epochs.admit_runs(place, runs)
        return epochs.highest()[place]

    async def _answers_of(self, place: Partition, start: int, end: int) -> AsyncGenerator[tuple[int, list[Run]], None]:
        """The runs of each answer, and the offset that it was asked from."""
        at, empty = start, 0
        fetch = asyncio.ensure_future(self._next(place, at, 1)) if at < end else None
        try:
            while fetch is not None:
                answer = await fetch
                empty = self._checked_wait(place, at, end, answer, empty) if answer.next_offset <= at else 0
                begin, at = at, max(at, answer.next_offset)
                wait_ms = _EMPTY_WAIT_MS if empty else 1
                fetch = asyncio.ensure_future(self._next(place, at, wait_ms)) if at < end else None
                for _turn in range(_TURNS):
                    await asyncio.sleep(0)
                yield begin, _before(answer.runs, end)
        finally:
            if fetch is not None:
                fetch.cancel()
                await asyncio.wait({fetch})

    def _checked_wait(self, place: Partition, at: int, end: int, answer: _Answer, empty: int) -> int:
        if answer.end < end:
            raise OffsetGone(place)
        if empty >= _EMPTY_FETCHES:
            where = f"{place.topic}/{place.number} at offset {at}"
            raise not_ready(
                self._kafka, f"{where}: the log goes on to {end} but nothing may be read; open transaction?"
            )
        return empty + 1

    async def _next(self, place: Partition, at: int, max_wait_ms: int) -> _Answer:
        async def question() -> _Answer:
            (answer,) = await self._all_answers({place: at}, max_wait_ms)
            found = self._runs_of(*answer)
            if self.gaps is not None:
                await self.gaps.pause()
            return found

        return await patiently(question)

    def _runs_of(self, place: Partition, position: int, row: Any) -> _Answer:  # noqa: ANN401 - aiokafka has no types
        records, begin, end, _stable = self._parsed(place, position, row)
        if 0 <= position < begin:
            raise OffsetGone(place)
        return _Answer(list(each_run(records, place, check_crcs=True, gaps=self.gaps)), records.next_fetch_offset, end)


def _before(runs: Sequence[Run], end: int) -> list[Run]:
    """Runs without the records at offsets from `end` on."""
    kept = []
    for run in runs:
        if run.records[-1].offset < end:
            kept.append(run)
        elif run.records[0].offset < end:
            kept.append(Run([record for record in run.records if record.offset < end], run.newest_ms))
    return kept
