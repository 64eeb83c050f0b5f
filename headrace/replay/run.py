"""A replay from its first question to its last answer.

1. plan     what to read, once; a run that was killed goes on with the plan it began with.
2. read     each partition's records to the end that the log had then, into windows.
3. compare  with the rows that the table has. A dry run ends here.
4. send     what differs to the owners of the rows, and wait for their answers.
5. read on  for rows into which the live worker has folded newer records, and send them again, a few times.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from contracts.errors import ReplayRefused, ServerMissing
from contracts.names import Topic, kafka_topic
from contracts.times import moment_of
from headrace.background import Background, watched
from headrace.replay.comparing import Comparison, Kept, compared
from headrace.replay.current import rows_of
from headrace.replay.job import Job
from headrace.replay.options import table_of, whole_windows
from headrace.replay.pace import Pace
from headrace.replay.plan import Rules, planned
from headrace.replay.reading import Part, Reader
from headrace.replay.report import Report
from headrace.replay.sending import ROUNDS, Sending
from headrace.replay.sources import Source, source_of
from reliability.ladder import Feature
from streams.growth_journal import last_entry
from streams.kafka_log import OffsetGone
from streams.log_range import LogRange, Span
from streams.records import Partition
from tables.recompute import Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.replay.applying import Applied
    from headrace.replay.job import Plan
    from headrace.replay.options import ReplayOptions
    from headrace.replay.progress import Steps
    from runtime.clock import Clock
    from runtime.settings import Settings
    from tables.fold import TableKind
    from tables.windows import WindowRules

_HOUR_MS = 3_600_000


class Replay:
    """One replay. `rules` are the table's."""

    def __init__(self, settings: Settings, clock: Clock, options: ReplayOptions, rules: WindowRules) -> None:
        self._settings = settings
        self._clock = clock
        self._options = options
        self._rules = rules
        self._kind: TableKind[Any] = table_of(settings, options.table)
        self._now_ms = int(1000 * clock.wall_s())
        self._span = whole_windows(options, self._kind.size_ms, self._now_ms)
        self._log = LogRange(settings.kafka)
        self._topic = kafka_topic(settings.prefix, self._kind.topic)

    async def run(self, steps: Steps) -> Report:
        """All of it. Interrupted, it keeps what it has; the same options go on from there.

        Raises:
            ReplayRefused: the range cannot be recomputed as asked.
            ServerMissing: Kafka, or an owner of the rows, does not answer.
        """
        options = self._options
        job = Job(options, self._span, (self._settings.prefix, self._settings.worker.group))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._log.stop)
            background = await stack.enter_async_context(
                watched(self._settings, self._clock, Feature.REPLAY, steps.say)
            )
            await self._log.start()
            counts, incarnation = await self._topics()
            await self._check_growth()
            sources = await self._sources(counts[self._topic], incarnation)
            plan = await self._plan(sources, job, incarnation)
            try:
                parts, reader = await self._read(sources, plan, job, steps, background)
            except OffsetGone as error:
                job.remove()
                raise ReplayRefused(
                    f"replay: retention has removed records of {self._topic} that this replay was going to read; "
                    "run it again: it will say from when on complete windows exist"
                ) from error
            comparisons = await self._compare(parts, reader, counts, incarnation)
            applied: Applied | None = None
            if not options.dry_run and any(each.to_send(force=options.force) for each in comparisons):
                sending = Sending(self._settings, self._clock, self._log, reader, incarnation)
                applied = await sending.send(f"{job.name}-{plan.began_ms}", comparisons, steps, force=options.force)
            job.remove()
        records = sum(part.windows.records for part in parts)
        return Report(self._kind, self._span, records, comparisons, applied, options.force, options.dry_run)

    async def _topics(self) -> tuple[dict[str, int], str]:
        """All topics with their partitions, and the incarnation of the source."""
        counts = await self._log.topics()
        commands, answers = (kafka_topic(self._settings.prefix, t) for t in (Topic.REPLACEMENTS, Topic.REPLACED))
        for name in (self._topic, commands, answers):
            if name not in counts:
                where = self._settings.kafka.bootstrap
                raise ServerMissing("Kafka", where, f"topic {name} does not exist", "start a worker, which makes it")
        if counts[commands] != counts[self._topic]:
            raise ReplayRefused(
                f"replay: {self._topic} has {counts[self._topic]} partitions and {commands} has {counts[commands]}: "
                "a row's owner reads its commands only where they are as many; see `headrace topics grow`"
            )
        return counts, (await self._log.incarnations([self._topic]))[self._topic]

    async def _check_growth(self) -> None:
        """Keys moved when the topics grew: what a window holds from before may stand in another partition."""
        entry = await last_entry(self._log, self._settings)
        if entry is None:
            return
        from_ms = entry.begun_ms + self._rules.future_skew_ms
        if self._span.from_ms < from_ms:
            moment = moment_of(from_ms).isoformat().replace("+00:00", "Z")
            raise ReplayRefused(
                f"replay: the topics were given more partitions, and keys moved: windows from {moment} on can be "
                "recomputed; those before stay as they are (docs/scaling.md)"
            )

    async def _sources(self, partitions: int, incarnation: str) -> list[Source]:
        places = [Partition(self._topic, number) for number in range(partitions)]
        spans, archive = await self._log.spans(places), None
        if self._options.archive is not None:
            from streams.archive import Archive  # noqa: PLC0415 - pyarrow is loaded only for an archive

            archive = Archive(self._options.archive)
        return [await source_of(self._log, place, spans[place], archive, incarnation) for place in places]

    async def _plan(self, sources: Sequence[Source], job: Job, incarnation: str) -> Plan:
        """Step 1."""
        kept = job.plan(incarnation)
        if kept is not None:
            return kept
        retention_ms = self._settings.kafka.retention_hours * _HOUR_MS
        rules = Rules(self._kind.size_ms, self._rules.future_skew_ms, retention_ms, self._now_ms)
        return job.begin(self._now_ms, incarnation, await planned(sources, self._span, rules))

    async def _read(
        self, sources: Sequence[Source], plan: Plan, job: Job, steps: Steps, background: Background
    ) -> tuple[list[Part], Reader]:
        """Step 2: one partition after the other, so that one chunk is in memory beside the windows."""
        options, parts = self._options, []
        mode, skew_ms = self._settings.contracts.mode, self._rules.future_skew_ms
        wanted = Wanted(self._span, options.tenant_id, mode, skew_ms)
        with steps.step("read", sum(each.end - each.start for each in plan.stretches), "records") as told:
            reader = Reader(Pace(options.rate_per_s, self._clock), self._clock, job, told, background)
            for source, stretch in zip(sources, plan.stretches, strict=True):
                part = await reader.take_up(self._kind, wanted, source, stretch)
                await reader.read(part, stretch.end)
                parts.append(part)
        return parts, reader

    async def _compare(
        self, parts: Sequence[Part], reader: Reader, counts: dict[str, int], incarnation: str
    ) -> list[Comparison]:
        """Step 3, and step 5 for rows that are newer already, as they are when an earlier run made the plan."""
        comparisons = [await self._compared(part, counts, incarnation) for part in parts]
        for _round in range(ROUNDS):
            for index, found in enumerate(comparisons):
                if found.newer:
                    place = found.part.source.place
                    await reader.read(found.part, (await self._log.true_end_offsets([place]))[place])
                    comparisons[index] = await self._compared(found.part, counts, incarnation)
        self._check_kept(comparisons)
        return comparisons

    async def _compared(self, part: Part, counts: dict[str, int], incarnation: str) -> Comparison:
        name = f"{self._settings.worker.group}-{self._kind.name}-changelog"
        place, span = Partition(name, part.number), Span(0, 0)
        if part.number < counts.get(name, 0):  # a table that no worker has had yet has no changelog, and no rows
            span = (await self._log.spans([place]))[place]
        held = await rows_of(self._log, place, span, self._kind, part.windows.wanted, incarnation)
        return compared(part, held, Kept(self._rules, self._now_ms))

    def _check_kept(self, comparisons: Sequence[Comparison]) -> None:
        outlived = sum(each.outlived for each in comparisons)
        if outlived and not any(each.counts for each in comparisons):
            raise ReplayRefused(
                f"replay: {self._kind.name} keeps windows for {self._rules.retention_ms / 1000:g} s behind a tenant's "
                f"newest event, and all {outlived:,} windows of this range are older; to keep them, raise the table's "
                "retention_s (docs/settings.md) and restart the workers"
            )
