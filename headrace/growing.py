"""Giving the topics of a deployment more partitions: what `headrace topics grow` does.

All source topics and the topics made from them share one number of partitions, and so does each table's changelog: a
worker that owns partition n of one owns it of all. So all grow together, and rows move to where the records of their
keys will be. While nothing runs, and nothing is left to fold:

1. check     no worker in the group, no mirror, no control process, every source record committed, none that waits
             for a retry, no requeued letter on its way; else nothing is touched.
2. journal   "growing", with the sources' ends and the tables' new numbers: from here no process starts anywhere.
3. logs      partitions are added to the changelogs.
4. away      rows that move are written to their new partitions; wait until the broker has them.
5. here      the rows of each partition are written anew, and those that moved are deleted.
6. results   the results of experiments are added up from the units that each partition has now.
7. number    the meta row of each partition says under which number positions go on.
8. topics    partitions are added to all other topics.
9. journal   "done": processes start again, with HEADRACE_KAFKA__PARTITIONS set to the new number.

Killed anywhere, it is run again and goes on: 4 to 7 leave alone what is done (a row's position tells), and write the
rest again as it was. Rows are never deleted before their copies are acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents import pending_rows
from agents.effect_agent import table_of
from contracts.errors import SettingsError
from contracts.names import Consumer, Stream, Topic, kafka_topic, retry_topic, topic_of
from headrace.checks import kafka_wire
from streams import growth_journal, requeue_table, topics
from streams.growth import GrowthLog, by_topic, mirror_at_rest
from streams.growth_journal import Entry, TableGrowth
from streams.kafka_log import Partition, partition_for
from streams.kafka_outlet import Outlet
from streams.kafka_producer import Producer
from tables import ab_results, ab_units, growing
from tables.catalogue import catalogue
from tables.growing import Grown
from tables.incarnations import META_KEY, incarnation_after
from tables.rows import decode_key, newest

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.redis_log import RedisLog
    from tables.fold import TableKind
    from tables.store import Change

MOST_PARTITIONS = 512
Say = Callable[[str], None]


@dataclass(frozen=True)
class Table:
    """A table's changelog and source topic."""

    changelog: str
    source: str


def waiting_changelogs(settings: Settings) -> list[str]:
    """The changelogs of records that wait for a retry, of the agents that have some."""
    names = (table_of(consumer) for consumer in (Consumer.ADAPTER, Consumer.TASKS))
    return [f"{settings.worker.group}-{name}-changelog" for name in names]


def tables_of(settings: Settings) -> list[Table]:
    """Every changelog of the worker's tables, with its source."""
    sources = {kind.name: kind.topic for kind in catalogue(settings).values()}
    return [
        Table(f"{settings.worker.group}-{name}-changelog", kafka_topic(settings.prefix, topic))
        for name, topic in sources.items()
    ]


class Growing:
    """One run. `log` and `producer` are connected; `outlet` is not yet, so that it learns of all partitions when it is.

    Who calls closes them.
    """

    def __init__(
        self,
        settings: Settings,
        log: GrowthLog,
        outlet: Outlet,
        producer: Producer,
        redis: RedisLog,
        clock: Clock,
        say: Say,
    ) -> None:
        self._settings = settings
        self._log = log
        self._outlet = outlet
        self._producer = producer
        self._redis = redis
        self._clock = clock
        self._say = say
        self._kinds = _kinds(settings)

    async def run(self, to: int) -> None:
        """Grow to `to` partitions, or finish what was begun.

        Raises:
            SettingsError: it must not be done now, or not to this number; says why. Nothing was changed.
            ServerMissing: (transient) run it again.
        """
        entry = await growth_journal.last_entry(self._log, self._settings)
        if entry is None or entry.state == "done":
            entry = await self._begin(to)
        elif entry.after != to:
            raise SettingsError(f"--partitions: a growth to {entry.after} broke off; finish that first (got {to})")
        else:
            await self._check_at_rest()
            self._say(f"going on with the growth from {entry.before} to {entry.after}")
        known = await self._log.topics()
        tables = [table for table in tables_of(self._settings) if table.changelog in known]
        waiting = [name for name in waiting_changelogs(self._settings) if name in known]
        await self._log.add_partitions([*(table.changelog for table in tables), *waiting], to)  # step 3
        for table in tables:
            await self._table(table, entry)
        grown = await self._log.add_partitions(self._topics(known), to)  # step 8
        self._say(f"{len(grown)} topics have {to} partitions now")
        done = Entry("done", entry.before, entry.after, entry.begun_ms, entry.tables)
        await growth_journal.append(self._producer, self._settings, done, self._now_ms())  # step 9

    def _topics(self, known: Mapping[str, int]) -> list[str]:
        return [name for name in topics.named(self._settings.prefix) if name in known]

    def _now_ms(self) -> int:
        return int(1000 * self._clock.wall_s())

    # --- before anything is touched ----------------------------------------------------------------------------------

    async def _begin(self, to: int) -> Entry:
        known = await self._log.topics()
        names = self._topics(known)
        if not names:
            raise SettingsError(f"no topic of prefix {self._settings.prefix} exists: nothing to grow")
        counts = {known[name] for name in names}
        if len(counts) > 1:
            told = ", ".join(f"{name} has {known[name]}" for name in names)
            raise SettingsError(f"the topics have different numbers of partitions, so none says who owns a key: {told}")
        (before,) = counts
        if not before < to <= MOST_PARTITIONS:
            raise SettingsError(f"--partitions: must be from {before + 1} to {MOST_PARTITIONS} (got {to})")
        await self._check_broker()
        await self._check_at_rest()
        await self._check_nothing_waits(known)
        ends = await self._committed_ends(before)
        entry = Entry("growing", before, to, self._now_ms(), await self._numbers(known, ends))
        await topics.create(self._log, self._settings.kafka, [growth_journal.new_topic(self._settings)])
        await growth_journal.append(self._producer, self._settings, entry, self._now_ms())  # step 2
        self._say(f"growing from {before} to {to}")
        return entry

    async def _check_broker(self) -> None:
        if kafka_wire.CREATE_PARTITIONS not in await kafka_wire.api_versions(self._settings.kafka.bootstrap):
            raise SettingsError(
                "--partitions: this broker cannot add partitions (the embedded one keeps nothing anyway: start it anew "
                "with HEADRACE_KAFKA__PARTITIONS)"
            )

    async def _check_at_rest(self) -> None:
        """Step 1, as far as it holds at any time."""
        members = await self._log.members(self._settings.worker.group)
        if members:
            raise SettingsError(
                f"worker.group {self._settings.worker.group} has members ({', '.join(sorted(members)[:3])}): stop all "
                "workers; one that was killed leaves when worker.session_timeout_s is over"
            )
        reason = await mirror_at_rest(self._redis, self._log, self._settings.prefix)
        reason = reason or await requeue_table.why_not_at_rest(self._settings.postgres)
        if reason:
            raise SettingsError(reason)

    async def _check_nothing_waits(self, known: Mapping[str, int]) -> None:
        """Records that wait for a retry stay where they are, and would lose their place among later ones."""
        for changelog in waiting_changelogs(self._settings):
            for number in range(known.get(changelog, 0)):
                rows = await self._log.rows(Partition(changelog, number), newest)
                waiting = sum(decode_key(key)[0] == pending_rows.KIND for key in rows)
                if waiting:
                    raise SettingsError(
                        f"{changelog}/{number}: {waiting} records wait for a retry: run a worker until none does "
                        "(metric headrace_effect_waiting_records)"
                    )

    async def _committed_ends(self, partitions: int) -> dict[Partition, int]:
        """The ends of all topics that workers read, once everything in them is committed."""
        read, prefix = [*(topic_of(stream) for stream in Stream), Topic.REPLACEMENTS], self._settings.prefix
        names = [kafka_topic(prefix, topic) for topic in read] + [retry_topic(prefix, each) for each in Consumer]
        ends = await self._log.true_end_offsets([Partition(name, n) for name in names for n in range(partitions)])
        # A topic without an agent is never committed: nobody's rows hold its records.
        left = by_topic(await self._log.uncommitted(self._settings.worker.group, self._of_agents(ends)))
        if left:
            told = ", ".join(f"{topic}: {count}" for topic, count in sorted(left.items()))
            raise SettingsError(f"records are left to fold ({told}): mirrors stopped, run a worker until none is")
        return ends

    def _of_agents(self, ends: Mapping[Partition, int]) -> dict[Partition, int]:
        unread = kafka_topic(self._settings.prefix, Topic.PROMPTS)
        return {place: end for place, end in ends.items() if place.topic != unread}

    async def _numbers(self, known: Mapping[str, int], ends: Mapping[Partition, int]) -> dict[str, TableGrowth]:
        """For each table a number above that of all of its partitions, and its source's ends."""
        found = {}
        for table in tables_of(self._settings):
            if table.changelog in known:
                rows = [await self._rows(table, n) for n in range(known[table.changelog])]
                of_source = {place.number: end for place, end in ends.items() if place.topic == table.source}
                number = growing.number_after(held.get(META_KEY) for held in rows)
                found[table.changelog] = TableGrowth(number, of_source)
        return found

    # --- a table's rows ----------------------------------------------------------------------------------------------

    async def _table(self, table: Table, entry: Entry) -> None:
        of_table = entry.tables[table.changelog]
        grown = Grown(entry.before, entry.after, of_table.number, of_table.ends)
        source_id = (await self._log.incarnations([table.source]))[table.source]
        metas = [(await self._rows(table, n)).get(META_KEY) for n in range(entry.after)]
        if all(raw is not None and incarnation_after(raw, source_id).number == grown.number for raw in metas):
            return
        moved = 0
        for number in range(entry.after):
            found = growing.moves(number, await self._rows(table, number), grown, self._kinds, partition_for)
            for target, changes in found.away.items():
                await self._write(table, target, changes)  # step 4
                moved += len(changes)
            await self._write(table, number, found.here)  # step 5
        if table.source == kafka_topic(self._settings.prefix, Topic.EXPERIMENTS):
            results = growing.Results(ab_results.kind(self._settings))
            for number in range(entry.after):
                added_up = results.rebuilt(await self._rows(table, number), grown.position(number))
                await self._write(table, number, added_up)  # step 6
        for number in range(entry.after):
            await self._write(table, number, [growing.meta_row(grown.number, source_id)])  # step 7
        self._say(f"{table.changelog}: {moved} rows moved")

    async def _rows(self, table: Table, number: int) -> dict[bytes, bytes]:
        return await self._log.rows(Partition(table.changelog, number), newest)

    async def _write(self, table: Table, number: int, changes: Iterable[Change]) -> None:
        rows: Sequence[Change] = list(changes)
        if rows:
            await self._outlet.send_rows(table.changelog, number, rows)


def _kinds(settings: Settings) -> dict[str, TableKind[Any]]:
    """Every kind of row, by what its keys begin with."""
    kinds = {kind.kind: kind for kind in catalogue(settings).values()}
    return kinds | {ab_units.KIND.kind: ab_units.KIND}
