"""Commands to the owners of rows, and their answers.

For each partition at most IN_FLIGHT commands are unanswered. What was not answered for RESEND_S is sent again: its
owner may have died before its flush. What is NEWER is read on and sent again; what SHRINKS stays as it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contracts.errors import ReplayRefused, ServerMissing
from streams.records import Outgoing, Partition
from tables import replacement as wire
from tables.replacement import Answer, Replacement, Result
from tables.row_codec import Row, RowCodec
from tables.rows import encode_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.replay.reading import Part
    from runtime.clock import Clock
    from streams.kafka_log import Cluster
    from streams.kafka_outlet import Outlet
    from tables.rows import WindowKey

IN_FLIGHT = 1000
SEND_AT_ONCE = 250
RESEND_S = 10.0
# Without any answer for this long there is no owner: a worker that starts, recovers and joins takes less.
SILENT_S = 90.0
_POLL_S = 0.5
_FETCH_WAIT_MS = 100
_SETTLED = (Result.APPLIED, Result.SAME, Result.SHRINKS, Result.ERASED)


@dataclass(frozen=True)
class Addresses:
    """Whom to ask and where the answers come."""

    job: str
    group: str
    incarnation: str
    commands: str
    """The topic."""
    answers: Partition
    answers_from: int
    """The offset from which on answers may be ours."""


class Mailbox:
    """Answers of the job, handed to whoever waits for them, by partition."""

    def __init__(self, log: Cluster, to: Addresses) -> None:
        """`log` is a connection for this alone: a fetch that waits for answers holds up what comes behind it."""
        self._log = log
        self._to = to
        self._waiting: dict[int, asyncio.Queue[Answer]] = {}

    def of(self, partition: int) -> asyncio.Queue[Answer]:
        """The answers that come for a partition from now on."""
        return self._waiting.setdefault(partition, asyncio.Queue())

    async def deliver(self) -> None:
        """Read answers until cancelled."""
        at = self._to.answers_from
        while True:
            for answer in await self._log.fetch({self._to.answers: at}, max_wait_ms=_FETCH_WAIT_MS):
                for record in answer.records:
                    self._hand_out(record.value or b"")
                at = max(at, answer.next_offset)

    def _hand_out(self, value: bytes) -> None:
        with suppress(ValueError):  # of another release, about another job
            answer = wire.decode_answer(value)
            if answer.job == self._to.job and answer.partition in self._waiting:
                self._waiting[answer.partition].put_nowait(answer)


@dataclass
class Applied:
    """What became of the rows of one partition."""

    results: Counter[Result] = field(default_factory=Counter)
    newer: list[WindowKey] = field(default_factory=list)
    """To be read on and sent again."""
    shrinking: list[WindowKey] = field(default_factory=list)

    def then(self, later: Applied) -> Applied:
        """Both, where `later` is about what was newer here."""
        results = Counter(self.results)
        del results[Result.NEWER]
        return Applied(results + later.results, later.newer, self.shrinking + later.shrinking)

    def beside(self, other: Applied) -> Applied:
        """Both, of two partitions."""
        return Applied(self.results + other.results, self.newer + other.newer, self.shrinking + other.shrinking)


class Sender:
    """Sends one partition's rows and waits for every answer."""

    def __init__(
        self, outlet: Outlet, mailbox: Mailbox, to: Addresses, clock: Clock, told: Callable[[int], None], *, force: bool
    ) -> None:
        self._outlet = outlet
        self._mailbox = mailbox
        self._to = to
        self._clock = clock
        self._told = told
        self._force = force

    async def send(self, part: Part, keys: Sequence[WindowKey]) -> Applied:
        """Replace these rows by what the partition's records give, as far as they were read.

        Waits until each is answered, at most SILENT_S without any answer.

        Raises:
            ReplayRefused: nobody answers, or the owner cannot take such rows.
            ServerMissing: Kafka does not answer.
        """
        commands = {raw: (key, value) for key, raw, value in self._commands(part, keys)}
        waiting, unanswered = list(reversed(commands)), dict[bytes, float]()
        answers, done, heard_s = self._mailbox.of(part.number), Applied(), self._clock.monotonic_s()
        while waiting or unanswered:
            while waiting and len(unanswered) < IN_FLIGHT:
                chosen = [waiting.pop() for _ in range(min(SEND_AT_ONCE, len(waiting)))]
                await self._post(part.number, [(raw, commands[raw][1]) for raw in chosen])
                unanswered |= dict.fromkeys(chosen, self._clock.monotonic_s())
            for answer in await _arrived(answers):
                ours = answer.read_up_to == part.next_offset - 1 and answer.key in unanswered
                if ours and self._settles(answer, commands[answer.key][0], done):
                    del unanswered[answer.key]
                    heard_s = self._clock.monotonic_s()
            now_s = self._clock.monotonic_s()
            overdue = [raw for raw, sent_s in unanswered.items() if now_s - sent_s > RESEND_S]
            waiting += overdue
            for raw in overdue:
                del unanswered[raw]
            if now_s - heard_s > SILENT_S:
                raise self._nobody(part)
        return done

    def _commands(self, part: Part, keys: Sequence[WindowKey]) -> Sequence[tuple[WindowKey, bytes, bytes]]:
        kind, read_up_to = part.windows.kind, part.next_offset - 1
        codec: RowCodec[Any] = RowCodec(kind)
        made = []
        for key in keys:
            state = part.windows.state(key)
            # Told as it is: a window that the table does not have yet is not pushed to anybody who listens now.
            row = Row(kind.fold.empty() if state is None else state, position=read_up_to, announced=read_up_to)
            raw = encode_key(kind.kind, key)
            command = Replacement(
                wire.FORMAT,
                self._to.job,
                kind.name,
                self._to.group,
                self._to.incarnation,
                raw,
                codec.encode(row),
                read_up_to,
                self._force,
            )
            made.append((key, raw, wire.encode(command)))
        return made

    async def _post(self, partition: int, commands: Sequence[tuple[bytes, bytes]]) -> None:
        now_ms = int(1000 * self._clock.wall_s())
        await self._outlet.send_all(
            [Outgoing(self._to.commands, key, value, [], now_ms, partition) for key, value in commands]
        )

    def _settles(self, answer: Answer, key: WindowKey, done: Applied) -> bool:
        if answer.result is Result.ELSEWHERE:
            return False  # sent again when it is overdue: somebody else may own it by then
        if answer.result not in (*_SETTLED, Result.NEWER):
            raise ReplayRefused(
                f"replay: the owner of {answer.table}/{answer.partition} answers {answer.result.value!r}: "
                "the topic was made anew since the replay began, or the worker is of another release; start it again"
            )
        done.results[answer.result] += 1
        if answer.result is Result.NEWER:
            done.newer.append(key)
            return True
        if answer.result is Result.SHRINKS:
            done.shrinking.append(key)
        self._told(1)
        return True

    def _nobody(self, part: Part) -> ServerMissing:
        where = f"{part.windows.kind.name}/{part.number}"
        return ServerMissing(
            "worker",
            self._to.group,
            f"nobody has taken rows of {where} for {SILENT_S:.0f} s",
            "start a worker of this release; the same command goes on",
        )


async def _arrived(answers: asyncio.Queue[Answer]) -> list[Answer]:
    """What is there, or what comes within _POLL_S."""
    try:
        async with asyncio.timeout(_POLL_S):
            found = [await answers.get()]
    except TimeoutError:
        return []
    while not answers.empty():
        found.append(answers.get_nowait())
    return found
