"""What an agent's work consists of: records in, effects out, nothing awaited. The runner does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.dead_letters import DeadLetter
from streams.kafka_log import Outgoing
from tables.store import Change

Headers = Sequence[tuple[str, bytes]]


class SourceRecord(Protocol):
    """What the runner hands an agent: a Kafka record as aiokafka gives it. `timestamp` is in ms since the epoch."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Headers: ...  # noqa: D102


@dataclass(frozen=True)
class Effects:
    """Everything one flush has to make durable, in the order of `agents.runner`'s steps.

    letters: records that cannot be processed; rows: changed table rows; push: records for the push topics;
    aside: records for other topics (late events).
    """

    letters: tuple[DeadLetter, ...] = ()
    rows: tuple[Change, ...] = ()
    push: tuple[Outgoing, ...] = ()
    aside: tuple[Outgoing, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.letters or self.rows or self.push or self.aside)


class PartitionWork(Protocol):
    """One agent's state for one partition. It waits for nothing, and reads time only from the clock it was given."""

    def fold(self, records: Sequence[SourceRecord], now_s: float) -> None:
        """Take in a chunk of records, in offset order. `now_s` is monotonic."""
        ...

    def take(self, now_s: float) -> Effects:
        """What is to be made durable now. Called again only after `settled`, or never (the partition was revoked)."""
        ...

    def settled(self, effects: Effects) -> None:
        """All of `effects` are durable."""
        ...
