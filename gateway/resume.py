"""Where a stream starts, from the Last-Event-ID that a client brings. Pure.

An id is `<epoch>.<partition>-<offset>`. All of a tenant's messages are in one partition, so one id resumes all
channels of a stream. The epoch names the cluster's incarnation: an id of a log that is gone must not be read as a
place in this one. The answer is whole or it is `LOST`; never a part that looks like the whole.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from gateway.ring import Ring

_ID = re.compile(r"([0-9a-f]{1,16})\.(\d{1,9})-(-1|\d{1,18})")

# Another gateway may be ahead of this one by what is on its way; further ahead, the log was cut and the id is void.
AHEAD_RECORDS = 10_000


class Place(NamedTuple):
    """What an id says: the last message that the client has; offset -1 when it came before the first one."""

    epoch: str
    partition: int
    offset: int


class Source(Enum):
    """Where the messages after the id come from."""

    RING = "ring"
    LOG = "log"
    LOST = "lost"


class Start(NamedTuple):
    """The decision. `cursor` is the first offset that the client needs; for LOST it is the live end."""

    source: Source
    cursor: int
    reason: str = ""


def event_id(epoch: str, partition: int, offset: int) -> str:
    """The SSE id of the record at `offset`."""
    return f"{epoch}.{partition}-{offset}"


def parse(text: str) -> Place | None:
    """The place that an id names, None when it is not one of ours."""
    match = _ID.fullmatch(text)
    return Place(match[1], int(match[2]), int(match[3])) if match else None


def decide(text: str, *, epoch: str, partition: int, tenant: str, ring: Ring, log_records: int) -> Start:
    """Where to start a stream of `tenant`, whose messages are in `partition`, after the id `text`.

    `log_records` bounds how many offsets may be read back from Kafka for it.
    """
    place = parse(text)
    if place is None:
        return Start(Source.LOST, ring.end, "malformed_id")
    cursor = place.offset + 1
    wrong = {
        "other_epoch": place.epoch != epoch,
        "other_partition": place.partition != partition,
        "beyond_the_log": cursor > ring.end + AHEAD_RECORDS,
        "too_old": ring.floor(tenant) - cursor > log_records,
    }
    for reason, applies in wrong.items():
        if applies:
            return Start(Source.LOST, ring.end, reason)
    return Start(Source.RING if ring.covers(tenant, cursor) else Source.LOG, cursor)
