"""One partition of an effect agent: a call for each record, and what is to be made durable of it.

Where it stands: `agents.runner` hands it chunks; `agents.lanes` says which record may run; `agents.effect_calls` makes
the call; `agents.owned_partition` makes durable what `take` gives, and acknowledges what is finished.

A record of the log is finished, and no longer holds the log up, when one of these is durable:

    its call is done       it is in the ranges of `agents.finished`
    it is dead             its letter is in PostgreSQL
    it has to wait         its row is in the agent's table (`agents.pending_rows`): for a retry, behind another record
                           of its aggregate that waits for one, for its tenant's quota, or while our side refuses calls

So nothing in the log waits for a retry, and no task sleeps on one: rows are looked through for what is due. A worker
that is killed leaves to its successor the calls that were under way or done since the last flush: these are made again.
Letters that come back are rows from the start; one that is done is told to PostgreSQL before its row is deleted.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agents import pending_rows
from agents.come_back import KEY as CAME_BACK_KEY
from agents.come_back import CameBack, Letter
from agents.effect import Dead, Done, Outcome, Reason, RetryLater, Try
from agents.effect_calls import EffectCalls
from agents.effects import Effects
from agents.finished import KEY as FINISHED_KEY
from agents.finished import Finished
from agents.lanes import Item, Lanes, Place
from agents.pending_rows import lane_of
from agents.records import dead_letter, letter_of
from agents.refusals import Refusals
from agents.waiting_rows import WaitingRows
from contracts.errors import ContractError
from contracts.requeue import Origin, Requeued
from reliability.backoff import full_jitter_s
from reliability.limiter import Rate, Want

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.effect_calls import EffectSurroundings
    from streams.dead_letters import DeadLetter
    from streams.record_chunk import RecordChunk, SourceRecord
    from tables.incarnations import Incarnation
    from tables.store import Change, RowStore

# With more records of the log than this begun and not finished, further ones are written down instead: what they call
# is slower than the log, and other agents that read the same topic are not to be held up by that.
MOST_OPEN = 2_000


class EffectWork:
    """One partition; see the module's text. A PartitionWork."""

    def __init__(self, partition: int, rows: RowStore, incarnation: Incarnation, around: EffectSurroundings) -> None:
        """`rows` are recovered."""
        self._partition = partition
        self._rows = rows
        self._base = incarnation.base
        self._first = incarnation.to_write
        self._around = around
        self._name = around.consumer.value
        self._ordered = around.policy.order == "aggregate"
        self._lanes = Lanes()
        self._calls = EffectCalls(partition, around)
        self._finished = Finished.of_row(rows.get(partition, FINISHED_KEY))
        self._came_back = CameBack(self._name, rows.get(partition, CAME_BACK_KEY))
        # Positions of the log that are held up, by what holds them up.
        self._open: dict[Item, int] = {}
        self._waiting = WaitingRows()
        self._letters: list[DeadLetter] = []
        self._refusals = Refusals()
        self._next_retry_ms = 0.0
        self._is_flushing = self._is_stopping = False
        self._shown = 0
        for key, raw in rows.items(partition):
            item = self._waiting.recovered(key, raw, ordered=self._ordered)
            if item is not None:
                self._lanes.add(item, self._now_ms())

    # --- records in --------------------------------------------------------------------------------------------------

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """Queue each record that was not finished before, and start what may run."""
        del now_s
        refusals, now_ms = chunk.refusals(), self._now_ms()
        for index, record in enumerate(chunk):
            position = self._base + record.offset
            if not self._finished.begin(position):
                continue
            place = Place(position, "")
            item = None
            if index in refusals:
                self._letters.append(letter_of(record, consumer=self._name, error=refusals[index]))
            elif place not in self._waiting:
                item = self._item(record, place, Origin(record.topic, "", record.partition, record.offset))
            if item is None:
                self._finished.finish(position)
            else:
                self._open[item] = position
                self._lanes.add(item, now_ms, aside=self._refusals.are_on or len(self._open) > MOST_OPEN)
        self._start()

    def passed(self, last_offset: int) -> None:
        """What was left out does not hold up the log."""
        self._finished.pass_to(self._base + last_offset)

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        """Queue letters that came back; each has a row from the next flush on."""
        del now_s
        now_ms = self._now_ms()
        for letter in self._came_back.new(chunk):
            if not isinstance(letter, Letter):
                self._letters.append(letter)
                continue
            self._came_back.taken(letter)
            back = letter.back
            base = self._base if back.origin.incarnation == self._around.cluster() else 0
            place = Place(base + back.origin.offset, back.origin.incarnation)
            # With a row already, it was written, and the number was not: a flush that was split, and died in between.
            item = None if place in self._waiting else self._item(letter.record, place, back.origin, back)
            if item is not None:
                item.letter, item.stored = (back.letter_id, back.seq), True
                self._waiting.keep(item)
                self._lanes.add(item, now_ms)
        self._start()

    def _item(self, record: SourceRecord, place: Place, origin: Origin, back: Requeued | None = None) -> Item | None:
        """The record, to be queued; None when its agent cannot even say what it is about: it is dead."""
        tenant = (dict(record.headers).get("tenant") or b"").decode(errors="replace")
        try:
            aggregate = self._around.effect.aggregate(record)
        except ContractError as error:
            self._letters.append(letter_of(record, consumer=self._name, error=error, back=back))
            return None
        return Item(lane_of(tenant, aggregate, place, ordered=self._ordered), place, origin, record)

    # --- calls -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        policy, now_ms = self._around.policy, self._now_ms()
        if self._refusals.pauses(now_ms):
            return  # the next flush looks again
        while not self._is_stopping and self._lanes.running_count < policy.concurrency:
            item = self._lanes.start(now_ms, self._left_out_ms)
            if item is None:
                return
            wait_ms = self._retry_wait_ms(now_ms) if item.tries else 0
            if wait_ms > 0:
                self._lanes.wait(item, now_ms + wait_ms, now_ms)
                continue
            if item.record is None:
                raw = self._rows.get(self._partition, pending_rows.key_of(item))
                assert raw is not None, f"{self._name}/{self._partition}: no row of {item.place}"  # noqa: S101
                item.record = pending_rows.record_of(raw)
            item.first_ms = item.first_ms or now_ms
            which = Try(item.tries + 1, item.first_ms)
            self._calls.start(item.record, which, partial(self._became, item, item.record))

    def _left_out_ms(self, item: Item) -> int:
        """How long the record's tenant has to wait for its quota; 0 when it was charged."""
        rate = self._around.tenant_rate()
        return 0 if rate is None else self._charge(Want("tenant", (self._name, item.tenant), rate))

    def _retry_wait_ms(self, now_ms: int) -> int:
        """How long a retry has to wait for its turn; 0 when it was charged.

        Each gets a turn of its own: did they all wait for the next one, all would be looked at again for it.
        """
        per_s = self._around.policy.retry_per_s
        if self._charge(Want("retries", (self._name,), Rate(per_s, max(1, int(per_s))))) == 0:
            return 0
        self._next_retry_ms = max(self._next_retry_ms, now_ms) + 1000 / per_s
        return max(1, int(self._next_retry_ms - now_ms))

    def _charge(self, want: Want) -> int:
        verdict = self._around.limiter.take([want])
        return 0 if verdict.allowed else max(1, int(1000 * verdict.retry_after_s))

    def _became(self, item: Item, record: SourceRecord, outcome: Outcome) -> None:
        """Note what a call came to. Nothing of it is durable before the next flush is."""
        around, now_ms = self._around, self._now_ms()
        spends = outcome.spends if isinstance(outcome, RetryLater) else isinstance(outcome, Dead)
        item.tries += spends
        if spends or isinstance(outcome, Done):
            self._refusals.made()
        else:
            self._refusals.refused(now_ms)
            self._lanes.put_all_aside()  # this may take hours, and the log is not to wait for it
        if isinstance(outcome, RetryLater) and item.tries < around.policy.tries:
            result = "retry" if spends else "refused"
            self._lanes.wait(item, now_ms + self._delay_ms(item, outcome), now_ms)
            self._keep(item)
        else:
            result = "done" if isinstance(outcome, Done) else "dead"
            if not isinstance(outcome, Done):
                self._letters.append(self._letter(item, record, outcome.reason))
            self._lanes.remove(item, now_ms)
            self._waiting.end(item, record, is_done=isinstance(outcome, Done))
            self._let_go(item)
        around.metrics.calls.labels(self._name, result).inc()
        self._start()

    def _delay_ms(self, item: Item, outcome: RetryLater) -> int:
        """Until its next try: what was asked for, and a random time on top."""
        policy = self._around.policy
        jitter_s = full_jitter_s(item.tries - 1, base_s=policy.base_s, cap_s=policy.cap_s, clock=self._around.clock)
        return max(1, int(1000 * ((outcome.delay_s or 0.0) + jitter_s)))

    def _letter(self, item: Item, record: SourceRecord, reason: Reason) -> DeadLetter:
        return dead_letter(
            record,
            consumer=self._name,
            error_class=reason.error_class,
            error_text=reason.text,
            attempts=max(1, item.tries),
            back=None if item.letter is None else Requeued(item.origin, *item.letter),
        )

    def _keep(self, item: Item) -> None:
        """Its row holds it from here on, and the log no longer does."""
        self._waiting.keep(item)
        self._let_go(item)

    def _let_go(self, item: Item) -> None:
        if item in self._open:
            self._finished.finish(self._open.pop(item))

    # --- effects out -------------------------------------------------------------------------------------------------

    def take(self, now_s: float) -> Effects:
        """What has become of records since the last call. What is due is started first."""
        del now_s
        self._start()
        for item in self._lanes.take_aside():
            self._keep(item)
        self._is_flushing = True
        rows, told = self._waiting.take()
        # Behind the rows: when a flush is split, what they stand for is done twice rather than not at all.
        rows += [change for change in (self._came_back.take_change(), self._finished.take_change()) if change]
        if rows and self._first is not None:
            rows.insert(0, self._first)
            self._first = None
        letters, self._letters = tuple(self._letters), []
        self._show(0 if self._is_stopping else self._lanes.waiting_count)
        first_open = self._finished.finished_to + 1 - self._base
        return Effects(letters, tuple(rows), recovered=told, source_from=first_open)

    def take_rows(self, now_s: float) -> Sequence[Change]:
        """None: rows go with what they stand for."""
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        """All of it is durable."""
        del effects
        self._is_flushing = False
        self._came_back.settled()
        self._waiting.settled(self._lanes.runs)

    def is_full(self) -> bool:
        """Whether too many records wait."""
        return self._lanes.waiting_count >= self._around.policy.waiting_records

    def is_busy(self) -> bool:
        """While calls are under way, each of which ends by itself, or too many records wait."""
        return bool(self._calls) or self.is_full()

    def finish(self) -> None:
        """Start no more calls."""
        self._is_stopping = True

    def hand_over(self) -> None:
        """Start no more calls, and have a row for each record that has not run."""
        self._is_stopping = True
        self._lanes.put_all_aside()

    def is_drained(self, left_count: int) -> bool:
        """Whether the calls that were under way are over, and what came of them is durable."""
        del left_count
        unwritten = self._is_flushing or self._letters or not self._waiting.is_idle or self._finished.is_changed
        return not self._calls and not unwritten

    async def stop(self) -> None:
        """Cancel all calls, and wait for them to end."""
        self._is_stopping = True
        await self._calls.stop()
        self._show(0)

    def _show(self, waiting: int) -> None:
        self._around.metrics.waiting.labels(self._name).inc(waiting - self._shown)
        self._shown = waiting

    def _now_ms(self) -> int:
        return int(1000 * self._around.clock.wall_s())
