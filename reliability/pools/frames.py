"""What a pool and its children say to each other, and how it is framed. Both sides import it; it imports little.

    frame = length (4 bytes, big endian) + pickle of one of the tuples below;  length 0 = "end in your own time"

    pool  -> child   Setup, then Work, Work, ...
    child -> pool    Ready or Unready, then one Done for each Work

Pickle is right here and nowhere else: both ends are one program of one version on one machine, joined by a socket pair
that nobody else can open.
"""

from __future__ import annotations

import pickle
import struct
from typing import NamedTuple

# The limits of settings stay far below what 4 bytes can say.
HEAD = struct.Struct("!I")
RETIRE = HEAD.pack(0)


class Setup(NamedTuple):
    """What a child is told first. `warm` is the pickle of what it calls then, b"" for nothing."""

    parent_pid: int
    niceness: int
    preload: tuple[str, ...]
    warm: bytes
    max_result_bytes: int


class Work(NamedTuple):
    """One task: its number, and the pickle of what is called."""

    number: int
    call: bytes


class Failure(NamedTuple):
    """An error as text: not every exception survives a pickle, and some break the reader."""

    error_class: str
    text: str
    traceback: str


class Ready(NamedTuple):
    """The child has imported and warmed up."""

    rss_bytes: int


class Unready(NamedTuple):
    """The child could not start, and ends."""

    failure: Failure


class Done(NamedTuple):
    """A task is over: the pickle of its result, or why there is none. Times in seconds, by the child."""

    number: int
    result: bytes
    failure: Failure | None
    run_s: float
    cpu_s: float
    rss_bytes: int


Message = Setup | Work | Ready | Unready | Done


def framed(message: Message) -> bytes:
    """One frame."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(body)) + body


def length_of(head: bytes) -> int:
    """Bytes of the body that follows a head."""
    length: int = HEAD.unpack(head)[0]
    return length


def parsed(body: bytes) -> Message:
    """The message in a frame's body."""
    message: Message = pickle.loads(body)  # noqa: S301 - from our own process, see above
    return message
