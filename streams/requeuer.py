"""Sends what was requeued: each letter to the consumer that failed, in order, so that dying anywhere has one effect.

Where it stands: `streams.letter_moves.requeue` orders it, `control` runs it; the next stop is the consumer's retry
topic, or the row of the outbox, which the relay then publishes. One turn:

1. look      at every requeue that runs: what became of its letters (`streams.requeue_plan` says how many may leave).
2. number    these many, in the requeue's order. Numbers rise for each consumer and partition, and are committed.
3. send      the letters that have a number and have not left, in order of number from the first one, with the number in
             a header; wait until the broker has them. (A row of the outbox is armed again instead, in step 4's own
             transaction.)
4. note      that they have left.

A crash between two steps repeats 3: what arrives twice is at or below the highest number that its consumer has seen,
and is passed over. So several requeuers do no harm either, not even one that was paused; a lease in the database only
keeps them from doing the same work. Nothing of a consumer leaves before an earlier number of it has: it would be passed
over then. A consumer whose topic cannot be reached waits alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING
from uuid import uuid4

from contracts.errors import SendRefused, ServerMissing, SettingsError
from reliability.backoff import full_jitter_s
from runtime.logs import get_logger
from streams import letter_moves, outbox_table, postgres, requeue_plan, requeue_table, retry_topics
from streams.dead_letters import RELAY
from streams.kafka_outlet import Outlet
from streams.letter_moves import Order
from streams.requeue_table import NO_CONSUMER, ROW_GONE, SEND_REFUSED, OpenRequeue, UnsentRecord, UnsentRow

if TYPE_CHECKING:
    from contracts.errors import HeadraceError
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.postgres import Connection
    from streams.requeue_metrics import RequeueMetrics
    from streams.requeue_plan import Pace

_log = get_logger(__name__)

# Pause between two turns while letters are out (at least as long as a turn takes), and while none is.
BUSY_S = 0.2
IDLE_S = 1.0
# Another one takes over this long after the last sign of life of the one that leads.
LEASE_S = 10.0
# Letters in memory at once: their payloads may be 1 MiB each.
SEND_LETTERS = 64
ROW_LETTERS = 500
_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.2, 10.0
ACTOR = "requeuer"
# What waits when Kafka cannot say how many partitions the retry topics have.
_EVERY_CONSUMER = "every consumer"
_ROW_GONE_TEXT = (
    "the outbox has no such row any more (purged, or the table was emptied): nothing can be published again from it; "
    "`headrace dead-letters export` has its bytes"
)


class Requeuer:
    """One requeuer, with a connection of its own."""

    def __init__(self, settings: Settings, clock: Clock, metrics: RequeueMetrics) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._kafka = Outlet(settings.kafka, clock)
        self._connection: Connection | None = None
        self._owner = uuid4().hex
        self._leads = False
        self._asked_s = -LEASE_S
        self._paces: dict[int, Pace] = {}
        # Of the retry topics, asked anew whenever another one may have led meanwhile: topics grow while none does.
        self._partitions: int | None = None
        # Consumers whose topic could not be reached: failures in a row, and when to try again (monotonic seconds).
        self._away: dict[str, tuple[int, float]] = {}
        self._wake = asyncio.Event()

    @property
    def leads(self) -> bool:
        """Whether it is this one's turn to send."""
        return self._leads

    def wake(self) -> None:
        """Look soon: something was requeued."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Turn after turn until `stop` is set; a server that is away is waited for."""
        failures = 0
        try:
            while not stop.is_set():
                began_s = self._clock.monotonic_s()
                try:
                    busy = await self.turn()
                    failures = 0
                    took_s = self._clock.monotonic_s() - began_s
                    pause_s = max(BUSY_S, took_s) if busy else IDLE_S
                except ServerMissing as error:
                    if failures == 0:
                        _log.warning("requeuer waits for a server", error=str(error))
                    await self._disconnect()
                    pause_s = full_jitter_s(failures, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, clock=self._clock)
                    failures += 1
                except Exception:  # noqa: BLE001 - counted, logged with its trace, and tried again
                    # One letter that we stumble over must not take the operators' API away from them.
                    self._metrics.failures.inc()
                    _log.exception("a requeuer's turn failed")
                    await self._step_back()
                    pause_s = _BACKOFF_CAP_S
                await self._rest(stop, pause_s)
        finally:
            await self.close()

    async def close(self) -> None:
        """Let another one lead, and close all connections; may be called twice."""
        await self._step_back()
        await self._kafka.stop()

    async def turn(self) -> bool:
        """Steps 1 to 4 once; whether letters are out or on their way. Raises ServerMissing while PostgreSQL is away."""
        connection = await self._connected()
        with postgres.translated(self._settings.postgres):
            if not await self._takes_turn(connection):
                return False
            await letter_moves.end_finished(connection)
            requeues = await requeue_table.open_requeues(connection)
            if any(requeue.seen.waiting for requeue in requeues):
                await self._learn_partitions()
            for requeue in requeues:
                await self._number(connection, requeue)
            for ended in self._paces.keys() - {requeue.id for requeue in requeues}:
                del self._paces[ended]
            # Rows first: they need no Kafka, which may take long to say that it is away.
            sent = await self._arm_rows(connection) + await self._send_records(connection)
        return bool(sent or requeues)

    async def _takes_turn(self, connection: Connection) -> bool:
        now_s = self._clock.monotonic_s()
        if now_s >= self._asked_s + LEASE_S:
            self._partitions = None
        if now_s >= self._asked_s + LEASE_S / 3:
            self._leads = await requeue_table.lead(connection, self._owner, LEASE_S)
            self._metrics.leads.set(self._leads)
            # One that does not lead asks with each turn.
            self._asked_s = now_s if self._leads else -LEASE_S
        return self._leads

    async def _learn_partitions(self) -> None:
        _failures, until_s = self._away.get(_EVERY_CONSUMER, (0, 0.0))
        if self._partitions is None and self._clock.monotonic_s() >= until_s:
            try:
                self._partitions = await retry_topics.partitions(self._settings)
                self._away.pop(_EVERY_CONSUMER, None)
            except (ServerMissing, SettingsError) as error:
                self._wait_for(_EVERY_CONSUMER, error)

    async def _number(self, connection: Connection, requeue: OpenRequeue) -> None:
        """Steps 1 and 2 for one requeue."""
        control, now_s = self._settings.control, self._clock.monotonic_s()
        before = self._paces.get(requeue.id) or requeue_plan.begun(now_s, requeue.rate_per_s, requeue.seen)
        pace = requeue_plan.observed(
            before,
            requeue.seen,
            now_s,
            rate_per_s=requeue.rate_per_s,
            backoff_s=control.requeue_backoff_s,
            backoff_cap_s=control.requeue_backoff_cap_s,
        )
        self._metrics.moved.labels("recovered").inc(max(0, requeue.seen.recovered - before.recovered))
        self._metrics.moved.labels("dead_again").inc(max(0, requeue.seen.died - before.died))
        if pace.gives_up:
            await self._give_up(connection, requeue)
        count = requeue_plan.allowed(pace, requeue.seen, now_s)
        if count:
            count = await requeue_table.number(connection, requeue.id, count, partitions=self._partitions)
            pace = requeue_plan.spent(pace, count)
        self._paces[requeue.id] = pace

    async def _give_up(self, connection: Connection, requeue: OpenRequeue) -> None:
        why = f"{requeue.seen.died} died again, {requeue.seen.recovered} recovered: the cause is not gone"
        order = Order(actor=ACTOR, why=why, most=1)
        back = await letter_moves.cancel(connection, requeue.id, order, outcome="gave_up")
        self._metrics.gave_up.inc()
        _log.warning("requeue given up", requeue=requeue.id, put_back=back, why=why)

    async def _send_records(self, connection: Connection) -> int:
        """Steps 3 and 4 for letters of Kafka; how many left."""
        total = 0
        while True:
            now_s = self._clock.monotonic_s()
            away = {source for source, (_failures, until_s) in self._away.items() if now_s < until_s}
            letters = await requeue_table.unsent_records(connection, SEND_LETTERS, not_of=away)
            if not letters:
                return total
            for source, group in groupby(letters, key=lambda letter: letter.source):
                total += await self._send_to(connection, source, list(group))

    async def _send_to(self, connection: Connection, source: str, letters: list[UnsentRecord]) -> int:
        """Send to one consumer; how many left. Those behind one that failed wait for it."""
        if source not in letter_moves.REQUEUED_TO:
            await self._bury_again(connection, letters, NO_CONSUMER, f"this release has no consumer {source}")
            return 0
        try:
            prefix, now_ms = self._settings.prefix, int(1000 * self._clock.wall_s())
            await self._kafka.send_all([retry_topics.record_of(prefix, letter, now_ms) for letter in letters])
        except ServerMissing as error:
            self._wait_for(source, error)
            return 0
        except SendRefused as error:
            self._away.pop(source, None)
            if len(letters) > 1:
                return await self._send_singly(connection, source, letters)
            await self._bury_again(connection, letters, SEND_REFUSED, str(error))
            return 0
        self._away.pop(source, None)
        await requeue_table.sent(connection, [(letter.id, letter.seq) for letter in letters])
        self._metrics.sent.labels(source).inc(len(letters))
        return len(letters)

    async def _send_singly(self, connection: Connection, source: str, letters: list[UnsentRecord]) -> int:
        """Find out which one is refused, up to one that must be waited for."""
        total = 0
        for letter in letters:
            total += await self._send_to(connection, source, [letter])
            if source in self._away:
                break
        return total

    async def _arm_rows(self, connection: Connection) -> int:
        """Steps 3 and 4 for letters of the outbox, as one transaction for each piece; how many left."""
        total = 0
        while True:
            async with connection.transaction():
                rows = await requeue_table.unsent_rows(connection, ROW_LETTERS)
                if not rows:
                    return total
                found = await outbox_table.rearm(connection, [(row.outbox_id, row.created_at) for row in rows])
                armed = [(row.id, row.seq) for row in rows if row.outbox_id in found]
                gone = [row for row in rows if row.outbox_id not in found]
                await requeue_table.sent(connection, armed)
                await self._bury_again(connection, gone, ROW_GONE, _ROW_GONE_TEXT)
            self._metrics.sent.labels(RELAY).inc(len(armed))
            total += len(armed)

    async def _bury_again(
        self, connection: Connection, letters: Sequence[UnsentRecord | UnsentRow], error_class: str, text: str
    ) -> None:
        """Put letters back that can never leave."""
        if not letters:
            return
        source = letters[0].source if isinstance(letters[0], UnsentRecord) else RELAY
        places = [(letter.id, letter.seq) for letter in letters]
        await requeue_table.unsendable(connection, places, error_class=error_class, error_text=text)
        self._metrics.unsendable.labels(source, error_class).inc(len(letters))
        _log.warning("letters cannot be requeued", source=source, letters=len(letters), reason=text)

    def _wait_for(self, source: str, error: HeadraceError) -> None:
        failures, _until_s = self._away.get(source, (0, 0.0))
        pause_s = full_jitter_s(failures, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, clock=self._clock)
        self._away[source] = (failures + 1, self._clock.monotonic_s() + pause_s)
        if failures == 0:
            _log.warning("requeued letters wait", source=source, error=str(error))

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await postgres.connect(self._settings.postgres, name="headrace requeuer")
        return self._connection

    async def _step_back(self) -> None:
        """Let another one lead at once, and disconnect."""
        if self._leads and self._connection is not None:
            with suppress(ServerMissing), postgres.translated(self._settings.postgres):
                await requeue_table.step_back(self._connection, self._owner)
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Give the connection back; nothing is half done on it."""
        connection, self._connection = self._connection, None
        self._leads, self._asked_s = False, -LEASE_S
        self._metrics.leads.set(0)
        if connection is not None:
            await postgres.close(connection)

    async def _rest(self, stop: asyncio.Event, pause_s: float) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, self._wake)]
        try:
            await asyncio.wait(waits, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._wake.clear()
