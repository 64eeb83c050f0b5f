"""The changelog topics of tables: how they are created and checked, and what recovery has to know of one.

Where it stands: `headrace.worker_app` calls `ensure` before Faust starts, so that a changelog has our configuration
whoever would create it first; `tables.window_table` calls `ChangelogWatch.look` at each rebalance.

Compaction keeps the newest version of each row for ever and deletes older ones after MIN_LAG_MS: for so long a paused
former owner may write an old version behind a new one, and both have to be there for recovery to choose (see
tables.recovery). Segments are small and compacted even when little of them is stale, so that a changelog holds beside
the rows about MAX_LAG_MS of old versions and DELETIONS_KEPT_MS of deletions: that bounds a full replay.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import ServerMissing, SettingsError
from runtime.logs import get_logger
from streams import topics
from streams.kafka_admin import Admin
from streams.kafka_connection import MAX_RECORD_BYTES, kafka_down
from streams.kafka_log import NewTopic, Partition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime.settings import KafkaSettings, Settings

log = get_logger(__name__)

MIN_LAG_MS = 3_600_000
MAX_LAG_MS = 6 * 3_600_000
# A store that was left alone for longer has missed deletions and must be rebuilt (tables.rocks_store).
DELETIONS_KEPT_MS = 24 * 3_600_000
SEGMENT_BYTES = 64 * 1024 * 1024
ATTEMPTS = 20
PAUSE_S = 0.5

CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(MIN_LAG_MS),
    "max.message.bytes": str(MAX_RECORD_BYTES),
    "max.compaction.lag.ms": str(MAX_LAG_MS),
    "segment.bytes": str(SEGMENT_BYTES),
    "segment.ms": str(MIN_LAG_MS),
    "delete.retention.ms": str(DELETIONS_KEPT_MS),
}


class ChangelogState(NamedTuple):
    """A changelog as it is now. `begin` and `end` are by partition: the oldest offset, and the next record's."""

    incarnation: str
    source_incarnation: str
    begin: Mapping[int, int]
    end: Mapping[int, int]


class ChangelogWatch:
    """Asks the cluster about changelogs; each question opens a connection and closes it."""

    def __init__(self, settings: KafkaSettings, attempts: int = ATTEMPTS) -> None:
        self._settings = settings
        self._attempts = attempts

    async def look(self, changelog: str, source: str, partitions: Sequence[int]) -> ChangelogState:
        """What recovery has to know; `source` is the topic that the table is folded from.

        Asked in the midst of a rebalance, when a broker may be on its way out: repeated `attempts` times.

        Raises:
            ServerMissing: (transient) the cluster does not answer, or one of the topics is missing.
        """
        for _attempt in range(1, self._attempts):
            try:
                return await self._look(changelog, source, partitions)
            except ServerMissing as error:
                log.warning("a changelog cannot be looked at yet", changelog=changelog, error=str(error))
                await asyncio.sleep(PAUSE_S)
        return await self._look(changelog, source, partitions)

    async def _look(self, changelog: str, source: str, partitions: Sequence[int]) -> ChangelogState:
        cluster = Admin(self._settings)
        await cluster.start()
        try:
            found = await cluster.incarnations([changelog, source])
            for topic in (changelog, source):
                if topic not in found:
                    raise kafka_down(self._settings, f"topic {topic} does not exist")
            places = [Partition(changelog, number) for number in partitions]
            begin = await cluster.begin_offsets(places)
            end = await cluster.true_end_offsets(places)
        finally:
            await cluster.stop()
        return ChangelogState(
            found[changelog],
            found[source],
            {place.number: offset for place, offset in begin.items()},
            {place.number: offset for place, offset in end.items()},
        )


async def ensure(cluster: Admin, settings: Settings, names: Sequence[str]) -> None:
    """Create missing changelogs, and check those that are there.

    Raises:
        ServerMissing: (transient) as topics.ensure.
        SettingsError: a changelog would lose rows, or has other partitions than kafka.partitions.
    """
    kafka = settings.kafka
    await topics.create(
        cluster, kafka, [NewTopic(name, kafka.partitions, kafka.replication, dict(CONFIG)) for name in names]
    )
    found = await cluster.topics(names)
    for name in names:
        if found[name] != kafka.partitions:
            raise SettingsError(
                f"kafka.partitions: is {kafka.partitions}, but the changelog {name} has {found[name]}; "
                "`headrace topics grow` changes both together"
            )
    for name, config in (await cluster.configs(names)).items():
        check(name, config)


def check(name: str, config: Mapping[str, str]) -> None:
    """Refuse a configuration that loses rows, warn of one that may choose a wrong version after a pause.

    What a broker does not report is not judged.
    """
    policy = config.get("cleanup.policy", "compact")
    if policy != "compact":
        raise SettingsError(
            f"topic {name}: cleanup.policy is {policy!r}, which deletes table rows by age; set it to compact: "
            f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy=compact"
        )
    lag_ms = int(config.get("min.compaction.lag.ms", MIN_LAG_MS))
    if lag_ms < MIN_LAG_MS:
        log.warning(
            "a changelog is compacted too soon: a paused worker's late rows may replace newer ones",
            topic=name,
            min_compaction_lag_ms=lag_ms,
            wanted_ms=MIN_LAG_MS,
        )
