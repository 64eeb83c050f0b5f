"""Dead letters that come back to a table of windows: each is counted into its window, while that is kept.

Where it stands: `agents.window_work` hands it the chunks of its retry topic, and takes with each flush what some of
them changed. They stand somewhere in the log's past, so that rows' positions say nothing about them: the number of the
last one that was taken in does (`agents.come_back`), and is written in one batch with the rows.

A letter whose window has expired is set aside as any event that is too late; that is the end of it, as it would have
been had it been sound. One that still breaks its contract, or lies ahead of the time at which it was sent, is the same
dead letter again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from agents.letter_queue import LetterQueue
from agents.records import aside_of, tenant_of
from contracts.errors import ContractError, OutOfRange
from tables.fold import Samples, with_tenants
from tables.rows import WindowKey
from tables.windows import window_start_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.come_back import Letter
    from agents.window_work import Surroundings
    from contracts.names import TenantId
    from streams.dead_letters import DeadLetter, Recovered
    from streams.kafka_log import Outgoing
    from streams.record_chunk import RecordChunk
    from tables.fold import TableKind
    from tables.store import Change
    from tables.window_partition import WindowPartition

S = TypeVar("S")


class TakenBack(NamedTuple):
    """What letters came to: rows to be written in one batch, and what else has to be durable with them."""

    changes: tuple[Change, ...]
    letters: tuple[DeadLetter, ...]
    aside: tuple[Outgoing, ...]
    recovered: tuple[Recovered, ...]
    first_open: int | None
    """See Effects.back_from."""


class WindowLetters(Generic[S]):
    """The letters of one partition."""

    def __init__(
        self,
        rows: WindowPartition[S],
        around: Surroundings,
        row: bytes | None,
        was_at_end: Callable[[], bool] = lambda: True,
    ) -> None:
        """`row`, `was_at_end`: see `agents.letter_queue`."""
        self._rows = rows
        self._kind: TableKind[S] = rows.kind
        self._around = around
        self._queue = LetterQueue(around.name, row, was_at_end)
        self._dead: list[DeadLetter] = []
        self._aside: list[Outgoing] = []

    def put(self, chunk: RecordChunk) -> None:
        """Queue what came back."""
        self._dead += self._queue.put(chunk)

    def take(self, now_s: float) -> TakenBack:
        """Count some of the letters, all else that is folded being taken already."""
        self._rows.apply_waiting()
        recovered = self._queue.take_untold()
        recovered += [letter.told for letter in self._queue.take() if self._is_counted(letter, now_s)]
        changes = self._rows.changes(self._rows.take_dirty())
        number = self._queue.take_change()
        if number is not None:
            changes.append(number)
        taken = TakenBack(
            tuple(changes), tuple(self._dead), tuple(self._aside), tuple(recovered), self._queue.first_open
        )
        self._dead, self._aside = [], []
        return taken

    def hand_over(self) -> None:
        """Count with the next flushes all that there are."""
        self._queue.hand_over()

    def settled(self) -> None:
        """What was taken is durable and told."""
        self._queue.settled()

    def _is_counted(self, letter: Letter, now_s: float) -> bool:
        """Whether its end is a good one; else it is dead again."""
        try:
            self._count(letter, self._samples(letter), now_s)
        except ContractError as error:
            self._dead.append(letter.dead_again(self._around.name, error))
            self._queue.died(letter)
            return False
        return True

    def _samples(self, letter: Letter) -> Samples:
        record = letter.record
        found: list[ContractError] = []
        samples = self._kind.samples([record.value or b""], self._around.settings.contracts.mode)
        for _index, error in samples.bad:
            raise error

        def tenant(_index: int) -> TenantId | None:
            return tenant_of(record, found.append)

        samples = with_tenants(samples, tenant)
        for error in found:
            raise error
        skew_ms = self._rows.rules.future_skew_ms
        for at_ms in samples.at_ms.tolist():
            if at_ms > record.timestamp + skew_ms:
                limit = f"must not be more than {skew_ms} ms ahead of {record.timestamp}, when it was sent again"
                raise OutOfRange(event=self._kind.topic, field="ts", limit=limit, value=at_ms)
        return samples

    def _count(self, letter: Letter, samples: Samples, now_s: float) -> None:
        """Raises TooLarge for one that is too late and cannot be set aside."""
        rows, name, late = self._rows, self._kind.name, self._around.metrics.late
        for place, ((tenant, subject), at_ms) in enumerate(zip(samples.names, samples.at_ms.tolist(), strict=True)):
            assert tenant is not None  # noqa: S101 - _samples has filled them in
            key = WindowKey(tenant, subject, window_start_ms(at_ms, rows.rules.size_ms))
            if rows.is_expired(key):
                self._aside.append(aside_of(letter.record, self._around.late_topic, name))
                late.labels(name, "set_aside").inc()
                return  # the others of its contributions are of the same time, so too late as well
            if rows.is_over(key, now_s):
                late.labels(name, "counted").inc()
            rows.marks.observe(tenant, at_ms, now_s)
            self._kind.fold.add_each([rows.touch_again(key).state], (0, 1), samples.values.take(np.array([place])))
