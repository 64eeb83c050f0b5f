"""Assignments and outcomes of experiments to results of their arms, and to messages.

Where it stands: `agents.runner` hands it records of the experiments topic, whose key is the unit; it decodes them and
`tables.ab_partition` folds them into the units' rows and this partition's share of the results; the messages' next stop
is `contracts.push`.

What it makes of a flush: batches of rows, each to be written whole (see `tables.ab_partition`); the running results of
experiments that changed (push-latest, at most one a running_interval_s for each experiment and worker, since only the
newest value matters). They are read from the store, so that they never tell what a restart would take back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from agents.come_back import KEY as CAME_BACK_KEY
from agents.effects import Effects, Prompt
from agents.experiment_messages import ExperimentMessages, messages_of
from agents.letter_queue import LetterQueue
from agents.records import letter_of, tenant_of
from contracts import envelope
from contracts.errors import ContractError, OutOfRange, TooLarge
from contracts.names import Consumer, TenantId, Topic
from streams.kafka_producer import BATCH_BYTES
from tables import ab_results, ab_units
from tables.ab_partition import AbPartition, Folded
from tables.ab_reading import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agents.come_back import Letter
    from agents.host import AgentHost
    from agents.metrics import AgentMetrics
    from contracts.experiments import ExperimentSample
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.dead_letters import DeadLetter
    from streams.kafka_log import Outgoing
    from streams.record_chunk import RecordChunk, SourceRecord
    from tables.ab_results import AbState
    from tables.fold import TableKind
    from tables.incarnations import Incarnation
    from tables.routing import LocalRows
    from tables.rows import WindowKey
    from tables.store import Change
    from tables.window_table import WindowTable

NAME = Consumer.EXPERIMENTS.value
# Below a record batch, with room for the meta row of the source's incarnation and for the batch's own header.
ROWS_BYTES = BATCH_BYTES - 10_000


# Beyond this many experiments, those not told of for a while are forgotten; it only costs them their pace and time.
MOST_HEARD = 10_000
FORGET_S = 60.0

# A tenant and the experiment's name.
Experiment = tuple[TenantId, str]


@dataclass
class Heard:
    """When this worker last told of an experiment, whichever of its partitions did; and its newest event."""

    sent_s: float
    newest_ms: int


@dataclass(frozen=True)
class Around:
    """What the partitions of a worker share."""

    kind: TableKind[AbState]
    table: LocalRows
    messages: ExperimentMessages
    metrics: AgentMetrics
    clock: Clock
    settings: Settings
    heard: dict[Experiment, Heard]


def register(host: AgentHost) -> WindowTable:
    """Attach the agent and declare its table."""
    settings, sinks = host.settings, host.sinks
    kind = ab_results.kind(settings)
    table = host.table(ab_results.NAME, kind)
    around = Around(kind, table, messages_of(settings), sinks.metrics, sinks.clock, settings, {})

    def open_work(partition: int) -> ExperimentWork:
        rows = AbPartition(
            partition,
            kind,
            table.rows,
            most_outcomes=settings.ab_results.unit_outcomes,
            batch_bytes=ROWS_BYTES,
            cache_bytes=settings.worker.row_cache_bytes,
        )
        came_back = table.rows.get(partition, CAME_BACK_KEY)
        return ExperimentWork(rows, table.incarnation(partition), around, came_back)

    describe = "Experiments' events to results of arms."
    host.attach(NAME, Topic.EXPERIMENTS, open_work, table=table, consumer=Consumer.EXPERIMENTS, describe=describe)
    return table


class ExperimentWork(Prompt):
    """One partition of the experiments topic."""

    def __init__(self, rows: AbPartition, incarnation: Incarnation, around: Around, came_back: bytes | None) -> None:
        """`came_back`: see `agents.come_back`."""
        self._rows = rows
        self._back = LetterQueue(NAME, came_back)
        self._incarnation = incarnation
        self._meta: Change | None = incarnation.to_write
        self._around = around
        self._skew_ms = int(1000 * around.settings.worker.future_skew_s)
        self._letters: list[DeadLetter] = []
        # Rows in the flush under way, and rows that were written and not told of yet.
        self._writing: frozenset[WindowKey] = frozenset()
        self._to_tell: dict[Experiment, set[WindowKey]] = defaultdict(set)

    # --- records in --------------------------------------------------------------------------------------------------

    def fold(self, chunk: RecordChunk, now_s: float) -> None:
        """Take in each event; what does not decode, or finds no room in its unit's row, becomes a dead letter."""
        del now_s
        refusals = chunk.refusals()
        samples = self._around.kind.samples(chunk.payloads(without=refusals), self._around.settings.contracts.mode)
        for index, error in samples.bad:
            self._bury(chunk, index, refusals.get(index, error))
        stamps_ms = chunk.timestamps_ms()
        names = samples.names
        values = cast("list[ExperimentSample]", samples.values)
        for place, index in enumerate(samples.indexes):
            tenant_id = names[place][0] or tenant_of(chunk.record(index), partial(self._bury, chunk, index))
            if tenant_id is None:
                continue
            self._fold_one(chunk, index, tenant_id, values[place], stamps_ms[index])

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        """Queue dead letters that came back; `take` takes in some with each flush."""
        del now_s
        self._letters += self._back.put(chunk)

    def _fold_one(
        self, chunk: RecordChunk, index: int, tenant_id: TenantId, sample: ExperimentSample, stamp_ms: int
    ) -> None:
        position = self._incarnation.base + chunk.offsets[index]
        name = partial(self._name_of, chunk, index)
        try:
            self._check_time(sample, stamp_ms)
            self._take_in(tenant_id, sample, name, position)
        except ContractError as error:
            self._bury(chunk, index, error)

    def _is_counted(self, letter: Letter) -> bool:
        """Whether its end is a good one; else it is dead again."""
        record = letter.record
        samples = self._around.kind.samples([record.value or b""], self._around.settings.contracts.mode)
        errors = [error for _index, error in samples.bad]
        for (tenant_id, _subject), sample in zip(samples.names, samples.values, strict=True):
            tenant = tenant_id or tenant_of(record, errors.append)
            if tenant is None:
                continue
            try:
                self._check_time(sample, record.timestamp)
                self._take_in(tenant, sample, partial(_name, record, letter.back.origin.incarnation), None)
            except ContractError as error:
                errors.append(error)
        if errors:
            self._letters.append(letter.dead_again(NAME, errors[0]))
            self._back.died(letter)
        return not errors

    def _check_time(self, sample: ExperimentSample, stamp_ms: int) -> None:
        """Raise OutOfRange for an event that is further ahead of its record than is believable."""
        if sample.ts_ms > stamp_ms + self._skew_ms:
            limit = f"must not be more than {self._skew_ms} ms ahead of its record's timestamp, {stamp_ms}"
            raise OutOfRange(event=sample.EVENT, field="ts", limit=limit, value=sample.ts_ms)

    def _take_in(
        self, tenant_id: TenantId, sample: ExperimentSample, name: Callable[[], str], position: int | None
    ) -> None:
        """Take in an event; `name` tells it from others when it has no id. Raises what makes it a dead letter."""
        event = ab_units.event_of(sample, name)
        match self._rows.fold(tenant_id, sample.unit, event, position):
            case Folded.COUNTED:
                heard = self._around.heard.setdefault((tenant_id, sample.experiment), Heard(-math.inf, sample.ts_ms))
                heard.newest_ms = max(heard.newest_ms, sample.ts_ms)
            case Folded.REPEAT:
                self._around.metrics.events.labels(NAME, "duplicate").inc()
            case Folded.TOO_MANY:
                most = self._around.settings.ab_results.unit_outcomes
                limit = f"must have at most ab_results.unit_outcomes = {most} outcomes"
                raise OutOfRange(event=sample.EVENT, field="unit", limit=limit, value=sample.unit)
            case Folded.TOO_LARGE:
                limit = f"must change at most {ROWS_BYTES} bytes of rows, the unit's and its arms'"
                raise TooLarge(event=sample.EVENT, field="unit", limit=limit, value=sample.unit)

    def _name_of(self, chunk: RecordChunk, index: int) -> str:
        """What tells an outcome without an event id from others: the id of its envelope, else where it stands.

        Raises:
            BadText: the record's headers are not text.
        """
        return _name(chunk.record(index), str(self._incarnation.number))

    def _bury(self, chunk: RecordChunk, index: int, error: ContractError) -> None:
        self._letters.append(letter_of(chunk.record(index), consumer=NAME, error=error))

    # --- effects out -------------------------------------------------------------------------------------------------

    def take(self, now_s: float) -> Effects:
        """Changed rows in batches that are not to be split, and what is to be told of those written before."""
        recovered = self._back.take_untold()
        recovered += [letter.told for letter in self._back.take() if self._is_counted(letter)]
        taken = self._rows.take()
        self._writing = taken.results
        batches, number = taken.batches, self._back.take_change()
        if number is not None:
            batches = (*batches, (number,))  # behind what it says is there: units know letters that come again
        if self._meta is not None and batches:
            batches = ((self._meta, *batches[0]), *batches[1:])
            self._meta = None
        effects = Effects(
            tuple(self._letters),
            push=tuple(self._due(now_s)),
            row_batches=batches,
            recovered=tuple(recovered),
            back_from=self._back.first_open,
        )
        self._letters = []
        return effects

    def take_rows(self, now_s: float) -> Sequence[Change]:
        """None: a batch of these is read from the store before it is told of."""
        del now_s
        return ()

    def settled(self, effects: Effects) -> None:
        """What was taken is in the store: it may be told, and read from there."""
        del effects
        self._rows.settled()
        self._back.settled()
        for key in self._writing:
            self._to_tell[key.tenant_id, key.subject[0]].add(key)
        self._writing = frozenset()

    def _due(self, now_s: float) -> Iterator[Outgoing]:
        """Messages of the experiments that were told of long enough ago."""
        interval_s, heard = self._around.settings.worker.running_interval_s, self._around.heard
        if not self._around.table.active:
            return  # a rebalance is under way
        now_ms = int(1000 * self._around.clock.wall_s())
        for experiment in list(self._to_tell):
            known = heard.setdefault(experiment, Heard(-math.inf, now_ms))
            if now_s - known.sent_s >= interval_s:
                known.sent_s = now_s
                yield from self._running(experiment, self._to_tell.pop(experiment), known.newest_ms, now_ms)
        if len(heard) > MOST_HEARD:
            for experiment in [e for e, known in heard.items() if now_s - known.sent_s > FORGET_S]:
                del heard[experiment]

    def _running(
        self, experiment: Experiment, changed: set[WindowKey], newest_ms: int, now_ms: int
    ) -> Iterator[Outgoing]:
        """What changed of an experiment, over all partitions of this worker."""
        around, (tenant_id, name) = self._around, experiment
        partitions = around.table.active
        metrics: dict[int, set[str]] = defaultdict(set)
        for key in changed:
            metrics[int(key.subject[1])].add(key.subject[3])
        for epoch, wanted in sorted(metrics.items()):
            rows = rows_of(around.kind, around.table.rows, partitions, tenant_id, name, epoch, wanted)
            yield from around.messages.running(
                tenant_id, rows, partitions=partitions, newest_ms=newest_ms, now_ms=now_ms
            )


def _name(record: SourceRecord, incarnation: str) -> str:
    """See `_name_of`; `incarnation` tells topics of one name apart."""
    dedupe_id = envelope.from_headers(record.headers).dedupe_id
    return f"ce {dedupe_id}" if dedupe_id else f"at {incarnation}/{record.partition}/{record.offset}"
