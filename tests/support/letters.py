"""Dead letters for tests, and a consumer of requeued ones that keeps the rules: what it has seen, it passes over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from contracts import requeue
from contracts.names import Consumer, retry_topic
from runtime.settings import Settings
from streams.dead_letters import DeadLetter, DeadLetters, Recovered
from streams.log_range import LogRange
from streams.record_chunk import SourceRecord
from streams.records import Partition

INCARNATION = "0a1b2c3d"


def record_letter(offset: int, *, source: str = "orders", partition: int = 0, **more: object) -> DeadLetter:
    """A record that a consumer could not process."""
    letter = DeadLetter(
        source=source,
        topic=f"p.{source}",
        incarnation=INCARNATION,
        partition=partition,
        offset=offset,
        tenant_id="t1",
        event_type="order_status",
        key=b"t1\x1f7",
        headers=(("ce_id", f"ob-{offset}-1".encode()), ("raw", b"\xff\x00")),
        payload=f'{{"n": {offset}}}'.encode(),
        error_class="Unavailable",
        error_text="the shop system does not answer",
    )
    return replace(letter, **more)  # type: ignore[arg-type]  # fields of a letter


def row_letter(outbox_id: int, created_at: datetime = datetime(2026, 1, 1, tzinfo=UTC), **more: object) -> DeadLetter:
    """A row that the relay could not publish."""
    letter = DeadLetter(
        source="relay",
        outbox_id=outbox_id,
        outbox_created_at=created_at,
        tenant_id="t1",
        event_type="order_status",
        key=b"7",
        headers=(("aggregate_type", b"order"),),
        payload=b"{}",
        error_class="MissingField",
        error_text="version is required",
    )
    return replace(letter, **more)  # type: ignore[arg-type]  # the same


async def retries(settings: Settings, source: str = "orders") -> list[SourceRecord]:
    """Every record on a consumer's retry topic, in order within each partition."""
    log = LogRange(settings.kafka)
    await log.start()
    try:
        topic = retry_topic(settings.prefix, Consumer(source))
        count = (await log.topics([topic])).get(topic, 0)
        spans = await log.spans([Partition(topic, number) for number in range(count)])
        found: list[SourceRecord] = []
        for place, span in spans.items():
            async for fetched in log.read(place, span.begin, span.end):
                found += fetched
        return found
    finally:
        await log.stop()


class RuleKeepingConsumer:
    """Reads the whole retry topic each time, and lets each number have its effect once: in order, never one seen."""

    def __init__(self, settings: Settings, letters: DeadLetters, source: str = "orders") -> None:
        self._settings = settings
        self._letters = letters
        self._source = source
        self._highest: dict[int, int] = defaultdict(int)
        self.effects: list[bytes] = []
        self._taken: set[tuple[int, int]] = set()
        self._repeated: set[tuple[int, int]] = set()

    @property
    def repeats(self) -> int:
        """How many records were sent of numbers that had been sent before; reading a record twice makes none."""
        return len(self._repeated - self._taken)

    async def consume(self, fails: Callable[[SourceRecord], bool] = lambda _record: False) -> None:
        """Take in what has come since; a record that fails is buried under its first place."""
        for record in await retries(self._settings, self._source):
            found = requeue.from_headers(record.headers)
            assert found is not None
            place = (record.partition, record.offset)
            if found.seq <= self._highest[record.partition]:
                self._repeated.add(place)
                continue
            self._taken.add(place)
            self._highest[record.partition] = found.seq
            if fails(record):
                await self._letters.bury([_again(record, found, self._source)])
                continue
            self.effects.append(record.value or b"")
            await self._letters.recovered([Recovered(found.letter_id, found.seq)])


def _again(record: SourceRecord, found: requeue.Requeued, source: str) -> DeadLetter:
    return DeadLetter(
        source=source,
        **found.origin._asdict(),
        tenant_id="t1",
        event_type="order_status",
        key=record.key or b"",
        headers=requeue.own_headers(record.headers),
        payload=record.value or b"",
        error_class="Unavailable",
        error_text="still away",
        requeue_seq=found.seq,
    )
