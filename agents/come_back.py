"""Dead letters that come back to a consumer over its retry topic: which of them are new. Pure.

Where it stands: `agents.runner` hands an agent's work the chunks of its retry topic; the work takes from them what is
new with `CameBack.new`, as records that stand where they first stood.

Whoever sends letters may die in between and send again, or be taken for dead and send late. Each letter has a number
(hr_seq), given once and rising for each consumer and partition, and senders send in its order. So what is not above the
highest number that was taken in has been taken in. That number is kept in a row of the agent's table, in the same
record batch of the changelog as what the letters changed, so that both are there or neither is:

    key    ["meta", 0, "", "came back"]
    value  [format, highest number, 0, told, [dead, ...]]

Rows are written before PostgreSQL is told which letters recovered. A worker that dies in between leaves letters that
are in the rows and that nobody was told of: they come again, as repeats, and are told of then. They are the numbers
above `told` that did not die again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agents.records import letter_of
from contracts import requeue
from contracts.errors import BadEntry, ContractError
from contracts.names import TenantId
from streams.dead_letters import Recovered
from streams.mirror_record import INVALID
from streams.record_chunk import SourceRecord
from tables.formats import check_format
from tables.incarnations import META_KIND
from tables.rows import WindowKey, encode_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contracts.requeue import Requeued
    from streams.dead_letters import DeadLetter
    from streams.record_chunk import RecordChunk
    from tables.store import Change

KEY = encode_key(META_KIND, WindowKey(TenantId(""), ("came back",), 0))
FORMAT = 1


class _Row(msgspec.Struct, array_like=True, frozen=True):
    format: int
    seq: int
    announced: int
    told: int
    dead: list[int]


_decode = msgspec.msgpack.Decoder(_Row).decode


class Letter(NamedTuple):
    """A letter that came back, and the record that it is: where it first stood, with the headers that it had.

    The mirror's word that it could not read the entry is not among them: the consumer is to judge anew. `at` is its
    offset on the retry topic.
    """

    back: Requeued
    record: SourceRecord
    at: int

    @property
    def told(self) -> Recovered:
        """What its recovery is told by."""
        return Recovered(self.back.letter_id, self.back.seq)

    def dead_again(self, consumer: str, error: ContractError) -> DeadLetter:
        """The same letter, which failed once more."""
        return letter_of(self.record, consumer=consumer, error=error, back=self.back)


class CameBack:
    """The letters of one consumer and partition."""

    def __init__(self, consumer: str, row: bytes | None = None) -> None:
        """`row` is the highest number's, None when there is none.

        Raises:
            ValueError: its format has another meaning here.
        """
        held = _Row(FORMAT, -1, 0, -1, []) if row is None else _decode(row)
        check_format("a row of returned letters", held.format, FORMAT)
        self._consumer = consumer
        self._seq = self._taken = self._written = held.seq
        self._told, self._dead = held.told, set(held.dead)
        self._perhaps_untold = range(held.told + 1, held.seq + 1)
        self._untold: list[Recovered] = []

    def new(self, chunk: RecordChunk) -> Iterator[Letter | DeadLetter]:
        """The letters of a chunk that were not taken in before; a dead letter for each record that is none."""
        for record in chunk:
            back = _back_of(record)
            if isinstance(back, BadEntry):
                yield letter_of(record, consumer=self._consumer, error=back)
            elif back.seq <= self._seq:
                if back.seq in self._perhaps_untold and back.seq not in self._dead:
                    self._untold.append(Recovered(back.letter_id, back.seq))
            else:
                self._seq = back.seq
                headers = [each for each in requeue.own_headers(record.headers) if each[0] != INVALID]
                origin = back.origin
                original = SourceRecord(
                    origin.topic,
                    origin.partition,
                    origin.offset,
                    record.timestamp,
                    record.key,
                    record.value,
                    headers,
                )
                yield Letter(back, original, record.offset)

    def taken(self, letter: Letter) -> None:
        """What the letter changes is in the next flush."""
        self._taken = letter.back.seq

    def died(self, letter: Letter) -> None:
        """A letter that was taken is dead again."""
        self._dead.add(letter.back.seq)

    def take_untold(self) -> list[Recovered]:
        """Letters that a predecessor took in for good, and that have come again: it may have told nobody."""
        untold, self._untold = self._untold, []
        return untold

    def take_change(self) -> Change | None:
        """The row of the highest number that was taken, when it has risen."""
        if self._taken <= self._written:
            return None
        self._written = self._taken
        return KEY, msgspec.msgpack.encode(_Row(FORMAT, self._taken, 0, self._told, sorted(self._dead)))

    def settled(self) -> None:
        """All that was taken up to the last `take_change` is durable and told."""
        self._told = self._written
        self._dead = {seq for seq in self._dead if seq > self._told}


def _back_of(record: SourceRecord) -> Requeued | BadEntry:
    try:
        back = requeue.from_headers(record.headers)
    except BadEntry as error:
        return error
    return back or BadEntry(event="requeue", field=requeue.SEQ, limit="must be there", value=dict(record.headers))
