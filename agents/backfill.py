"""The owner's side of `headrace replay`: recomputed rows in, answers out.

Where it stands: `headrace.replay` sends a command to the partition of `replacements` that has the source's number;
`agents.runner` hands it here, `agents.window_work` puts the row in place, and the flush of the table's own partition
makes it durable. Then the answer goes to `replaced`.

Steps for one command; `tables.replacement` says why each may be repeated:

1. wait     for its turn: at most APPLY_AT_ONCE rows are under way, so that no live flush carries many. While any are,
            the partition is flushed again after AGAIN_S, which is a rhythm of small pieces.
2. replace  in the table's partition, which decides: applied, same, newer or smaller.
3. durable  the store has the row, and it is written only after the changelog was acknowledged.
4. answer   sent with this agent's own flush.

Nothing of this is kept: who asks repeats what was not answered. So a command may be acknowledged to Kafka before it is
carried out, and a rebalance in the midst of it drops it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from agents.effects import Effects, Prompt
from agents.erase_orders import EraseDesk, named
from agents.owned_table import OwnedTable
from agents.records import letter_of
from agents.window_work import Replaced
from contracts.errors import BadEntry
from contracts.names import Topic, kafka_topic
from streams.kafka_log import Outgoing
from tables import erase_orders
from tables import replacement as wire
from tables.replacement import Answer, Replacement, Result
from tables.rows import WindowKey, decode_key, header_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agents.host import AgentHost
    from runtime.clock import Clock
    from streams.dead_letters import DeadLetter
    from streams.record_chunk import RecordChunk
    from tables.incarnations import Incarnation
    from tables.store import Change

NAME = "backfill"
# A row costs some 80 us to put in place, encode and write: nothing live waits for more than about 4 ms.
APPLY_AT_ONCE = 50
# With that, at most 1,000 rows a second of each partition: what a live worker can spare.
AGAIN_S = 0.05
# A partition of the table is taken up some seconds after the commands are read, or it never is.
PATIENCE_S = 5.0

_RESULTS = {
    Replaced.APPLIED: Result.APPLIED,
    Replaced.SAME: Result.SAME,
    Replaced.NEWER: Result.NEWER,
    Replaced.SHRINKS: Result.SHRINKS,
    Replaced.UNREADABLE: Result.REFUSED,
}


class Target(Protocol):
    """A partition of a table (`agents.window_work.WindowWork`)."""

    def replace(self, key: WindowKey, raw: bytes, *, read_up_to: int, force: bool) -> Replaced:
        """Put a recomputed row in a row's place; durable with the next flush."""
        ...


class Owned(Protocol):
    """What this worker has of one table."""

    def target(self, partition: int) -> Target | None:
        """The partition's work, while it is owned and recovered."""
        ...

    def incarnation(self, partition: int) -> tuple[Incarnation, str]:
        """Of the source, for a partition that has a target: its number, and the topic's id."""
        ...

    def stored(self, partition: int, key: bytes) -> bytes | None:
        """A row as it is durable."""
        ...

    def is_absent(self, partition: int, key: WindowKey) -> bool:
        """Whether there is no such row, durable or about to be."""
        ...

    def wake(self, partition: int) -> None:
        """Flush the partition soon."""
        ...


class _Waiting(NamedTuple):
    command: Replacement
    since_s: float


@dataclass
class _UnderWay:
    command: Replacement
    target: Target
    read_up_to: int
    """As a position."""
    row: list[Any]
    result: Result


class ReplacementWork(Prompt):
    """One partition of the replacements topic."""

    def __init__(
        self,
        partition: int,
        tables: Mapping[str, Owned],
        group: str,
        answers_to: str,
        clock: Clock,
        again: Callable[[int], None] = lambda _partition: None,
        erasing: EraseDesk | None = None,
    ) -> None:
        """`again` is called with the partition when `take` is to be called once more, after AGAIN_S.

        `erasing` is given the orders to erase tenants, which come the same way.
        """
        self._partition = partition
        self._again = again
        self._erasing = erasing
        self._tables = tables
        self._group = group
        self._answers_to = answers_to
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._under_way: list[_UnderWay] = []
        self._known: set[tuple[str, str, bytes, int]] = set()
        self._answers: list[Answer] = []
        self._letters: list[DeadLetter] = []

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """Queue commands; one that is queued already is not queued again."""
        for index, value in enumerate(chunk.values):
            try:
                if self._erasing is not None and erase_orders.is_order(value or b""):
                    self._erasing.put(value or b"", now_s)
                    continue
                command = wire.decode_replacement(value or b"")
            except ValueError as error:
                refused = BadEntry(event="replacement", field="", limit=str(error), value=value or b"")
                self._letters.append(letter_of(chunk.record(index), consumer=NAME, error=refused))
                continue
            if command.group == self._group and _id_of(command) not in self._known:
                self._known.add(_id_of(command))
                self._waiting.append(_Waiting(command, now_s))

    def take(self, now_s: float) -> Effects:
        """Look for what has become durable, put further rows in place, and answer."""
        self._settle_durable()
        while self._waiting and len(self._under_way) < APPLY_AT_ONCE and self._begin(self._waiting[0], now_s):
            self._waiting.popleft()
        self._settle_durable()
        for name in {each.command.table for each in self._under_way}:
            self._tables[name].wake(self._partition)
        reports = [] if self._erasing is None else self._erasing.take(now_s)
        if self._under_way or (self._erasing is not None and self._erasing.is_busy()):
            self._again(self._partition)
        now_ms = int(1000 * self._clock.wall_s())
        aside = tuple(
            Outgoing(self._answers_to, answer.job.encode(), wire.encode(answer), [], now_ms) for answer in self._answers
        ) + tuple(Outgoing(self._answers_to, each.job.encode(), wire.encode(each), [], now_ms) for each in reports)
        effects = Effects(letters=tuple(self._letters), aside=aside)
        self._answers, self._letters = [], []
        return effects

    def take_rows(self, now_s: float) -> Sequence[Change]:
        """There are none: others write what is put in place."""
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        """Nothing is left to do."""
        del effects

    def _begin(self, waiting: _Waiting, now_s: float) -> bool:
        """Steps 1 and 2; False while the command has to wait."""
        command = waiting.command
        table = self._tables.get(command.table)
        target = None if table is None else table.target(self._partition)
        if table is None or target is None:
            if table is not None and now_s - waiting.since_s < PATIENCE_S:
                return False
            self._answer(command, Result.ELSEWHERE)
            return True
        incarnation, topic_id = table.incarnation(self._partition)
        if command.incarnation != topic_id:
            self._answer(command, Result.STALE)
            return True
        read_up_to = incarnation.base + command.read_up_to
        try:
            _kind, key = decode_key(command.key)
            row = _shifted(command.row, incarnation.base)
        except ValueError:
            self._answer(command, Result.REFUSED)
            return True
        raw = msgspec.msgpack.encode(row) if incarnation.base else command.row
        if self._erasing is not None and self._erasing.hides(command.table, key.tenant_id):
            self._answer(command, Result.ERASED)
            return True
        result = _RESULTS[target.replace(key, raw, read_up_to=read_up_to, force=command.force)]
        if result in (Result.NEWER, Result.SHRINKS, Result.REFUSED) or table.is_absent(self._partition, key):
            self._answer(command, result)
        else:
            self._under_way.append(_UnderWay(command, target, read_up_to, row, result))
        return True

    def _settle_durable(self) -> None:
        """Step 3. A row whose partition was taken away is dropped: its next owner is asked."""
        still = []
        for each in self._under_way:
            table = self._tables[each.command.table]
            if table.target(self._partition) is not each.target:
                self._known.discard(_id_of(each.command))
            elif _is_durable(table.stored(self._partition, each.command.key), each):
                self._answer(each.command, each.result)
            else:
                still.append(each)
        self._under_way = still

    def _answer(self, command: Replacement, result: Result) -> None:
        """Step 4."""
        self._known.discard(_id_of(command))
        self._answers.append(
            Answer(
                wire.FORMAT,
                command.job,
                command.table,
                self._partition,
                command.key,
                command.read_up_to,
                result,
            )
        )


class Later:
    """Calls `wake` with a partition AGAIN_S after it was asked for, once for all that is asked meanwhile."""

    def __init__(self, wake: Callable[[int], None]) -> None:
        self._wake = wake
        self._asked: set[int] = set()

    def ask(self, partition: int) -> None:
        """Wake the partition after AGAIN_S."""
        if partition not in self._asked:
            self._asked.add(partition)
            asyncio.get_running_loop().call_later(AGAIN_S, self._now, partition)

    def _now(self, partition: int) -> None:
        self._asked.discard(partition)
        self._wake(partition)


def register(host: AgentHost) -> None:
    """Attach the agent; after all agents that have tables."""
    settings, clock = host.settings, host.sinks.clock
    tables = {name: OwnedTable(table, runner) for name, (table, runner) in host.table_runners.items()}
    answers_to = kafka_topic(settings.prefix, Topic.REPLACED)

    def open_work(partition: int) -> ReplacementWork:
        erasing = EraseDesk(partition, tables, settings.worker.group, named(clock))
        return ReplacementWork(partition, tables, settings.worker.group, answers_to, clock, later.ask, erasing)

    runner = host.attach(NAME, Topic.REPLACEMENTS, open_work, describe="Recomputed windows to table rows.")
    later = Later(runner.wake)


def _id_of(command: Replacement) -> tuple[str, str, bytes, int]:
    return command.job, command.table, command.key, command.read_up_to


def _shifted(raw: bytes, base: int) -> list[Any]:
    """The row's fields with offsets made positions."""
    version, position, announced, *fields = msgspec.msgpack.decode(raw)
    return [version, position + base, announced + base if announced >= 0 else announced, *fields]


def _is_durable(stored: bytes | None, each: _UnderWay) -> bool:
    """Whether the store has the row, or one that live records have been folded into since."""
    if stored is None:
        return False
    if header_of(stored).position > each.read_up_to:
        return True
    fields = each.row[3:]
    return list(msgspec.msgpack.decode(stored)[3 : 3 + len(fields)]) == fields
