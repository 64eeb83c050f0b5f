"""What `headrace replay` and the owners of table rows tell each other: commands and answers, as MessagePack. Pure.

A command goes to the partition of `replacements` that has the source partition's number: topics with as many partitions
as each other are co-partitioned, so the worker that owns the row reads it. The answer goes to `replaced`, keyed by job.

Neither is stored anywhere else. Who asks repeats a command until it is answered; the owner may get one twice, or long
after, and applies it only to a row that holds nothing newer than `read_up_to`. So repeating is harmless, and an owner
that dies before its flush just does not answer.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

FORMAT = 1


class Result(StrEnum):
    """What became of a command."""

    APPLIED = "applied"
    """The row is durable."""
    SAME = "same"
    """The row was so already."""
    NEWER = "newer"
    """Records behind `read_up_to` are in the row: read on, and send again."""
    SHRINKS = "shrinks"
    """Refused: the row counts more than its replacement, and force was not asked for."""
    ELSEWHERE = "elsewhere"
    """This worker reads the command but does not own the row; a rebalance is under way, or the table is not here."""
    REFUSED = "refused"
    """This worker cannot read the row: another release wrote it."""
    ERASED = "erased"
    """Refused: the tenant was erased, and the source still has records from before."""
    STALE = "stale"
    """The command is about another incarnation of the source topic."""


class Replacement(msgspec.Struct, array_like=True, frozen=True):
    """Put a row in place of the one that the table has. `read_up_to` is the highest source offset that is in it."""

    format: int
    job: str
    table: str
    group: str
    """The worker's consumer group: two groups may read the same topics into tables of their own."""
    incarnation: str
    """Of the source topic, which the offsets belong to."""
    key: bytes
    row: bytes
    """As in the store; a row without events where none belongs to it any more."""
    read_up_to: int
    force: bool


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What became of the command with this key and `read_up_to`."""

    format: int
    job: str
    table: str
    partition: int
    key: bytes
    read_up_to: int
    result: Result


_replacements = msgspec.msgpack.Decoder(Replacement)
_answers = msgspec.msgpack.Decoder(Answer)
encode = msgspec.msgpack.encode


def decode_replacement(raw: bytes) -> Replacement:
    """The command. Raises ValueError for bytes that are none, or of a newer format."""
    found = _replacements.decode(raw)
    _check(found.format)
    return found


def decode_answer(raw: bytes) -> Answer:
    """The answer. Raises ValueError for bytes that are none, or of a newer format."""
    found = _answers.decode(raw)
    _check(found.format)
    return found


def _check(version: int) -> None:
    if version != FORMAT:
        raise ValueError(f"a replacement or its answer has format {version}, this release reads {FORMAT}: upgrade it")
