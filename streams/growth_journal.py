"""Whether the topics of a deployment are being given more partitions, as a topic of its own says: `{prefix}.growth`.

Where it stands: `headrace.growing` writes it; `streams.topics.ensure`, which every process calls when it starts, reads
it. One partition; the last record says what holds. While it says "growing" no worker, mirror or gateway starts, on
whatever machine: rows of tables and records of their keys are not in the same partitions then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from contracts.errors import SettingsError
from streams.kafka_log import NewTopic, Outgoing, Partition

if TYPE_CHECKING:
    from runtime.settings import Settings
    from streams.kafka_log import Cluster
    from streams.kafka_producer import Producer

CONFIG = {"cleanup.policy": "delete", "retention.ms": "-1"}


class TableGrowth(msgspec.Struct, frozen=True):
    """What holds for one table: the number that positions carry from now on (see `tables.incarnations`).

    `ends` are the source's offsets at which it grew, by partition: everything below is in the rows.
    """

    number: int
    ends: dict[int, int]


class Entry(msgspec.Struct, frozen=True):
    """One growth: under way, or the last one that was finished. `begun_ms` is Unix time."""

    state: Literal["growing", "done"]
    before: int
    after: int
    begun_ms: int
    tables: dict[str, TableGrowth]
    """By changelog topic."""


_decode = msgspec.json.Decoder(Entry, strict=False).decode


def topic_of(settings: Settings) -> str:
    """The journal's topic."""
    return f"{settings.prefix}.growth"


def new_topic(settings: Settings) -> NewTopic:
    """How it is created."""
    return NewTopic(topic_of(settings), 1, settings.kafka.replication, CONFIG)


async def last_entry(cluster: Cluster, settings: Settings) -> Entry | None:
    """What holds now; None: the topics never grew."""
    topic = topic_of(settings)
    if topic not in await cluster.topics([topic]):
        return None
    # A record may be missing at the last offset of a partition: a marker of a transaction, though nobody writes one.
    records = await cluster.read_tail(Partition(topic, 0), 10)
    return _decode(records[-1].value or b"") if records else None


async def append(producer: Producer, settings: Settings, entry: Entry, now_ms: int) -> None:
    """Say what holds from now on."""
    await producer.send_all([Outgoing(topic_of(settings), None, msgspec.json.encode(entry), [], now_ms, 0)])


async def refuse_while_growing(cluster: Cluster, settings: Settings) -> None:
    """Nothing may start before a growth is finished.

    Raises:
        SettingsError: one is under way, or broke off.
    """
    entry = await last_entry(cluster, settings)
    if entry is not None and entry.state == "growing":
        raise SettingsError(
            f"kafka.partitions: the topics are on their way from {entry.before} to {entry.after} partitions; "
            f"run `headrace topics grow --partitions {entry.after}` to its end first (docs/scaling.md)"
        )
