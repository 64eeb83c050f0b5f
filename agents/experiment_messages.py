"""The messages that the experiments agent makes of results. Pure: the same rows make the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from agents.records import Names, latest_record
from contracts import push
from contracts.derived import AbTestResult, ArmResult
from contracts.names import CONTRACT_VERSION, experiment_channel
from contracts.times import moment_of
from tables.ab_compare import CONFIDENCE, compare
from tables.ab_results import ASSIGNED
from tables.stats import Estimate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from contracts.names import TenantId
    from runtime.settings import Settings
    from streams.kafka_log import Outgoing
    from tables.ab_compare import Arm
    from tables.ab_results import AbState
    from tables.row_codec import Row
    from tables.rows import Subject


# An arm takes at most 2 kB of a message, which the brokers and the gateway take up to 1 MiB. An experiment with more
# is a mistake (the unit's id as arm), and must not stop its partition.
MOST_ARMS = 100


@dataclass(frozen=True)
class ExperimentMessages:
    """Makes messages of rows that were merged over some of the partitions."""

    names: Names
    control_arm: str
    of_partitions: int

    def running(
        self,
        tenant_id: TenantId,
        rows: Mapping[Subject, Row[AbState]],
        *,
        partitions: Collection[int],
        newest_ms: int,
        now_ms: int,
    ) -> Iterator[Outgoing]:
        """The metrics of one experiment and epoch as they stand now; a newer message of a metric replaces it.

        `rows` are of all arms: the metrics to be told, and the assignments. Each row's position is the sum of its
        partitions' revisions. Workers own different partitions, and do not replace each other's messages. Of more than
        MOST_ARMS arms the control and those with the most units are told.
        """
        arms = _told_arms(rows, self.control_arm)
        of_arms = len({arm for _, _, arm, _ in rows})
        states = {subject: row.state for subject, row in rows.items() if subject[2] in arms}
        for result in compare(states, control_arm=self.control_arm):
            told = {ASSIGNED, result.metric}
            made = AbTestResult(
                version=CONTRACT_VERSION,
                tenant_id=tenant_id,
                ts=moment_of(newest_ms),
                experiment=result.experiment,
                epoch=result.epoch,
                metric=result.metric,
                kind=result.kind,
                arms=[_arm(arm) for arm in result.arms],
                revision=sum(row.position for (_, _, _, metric), row in rows.items() if metric in told),
                control=result.control,
                confidence=CONFIDENCE,
                partitions=len(partitions),
                of_partitions=self.of_partitions,
                of_arms=of_arms if of_arms > MOST_ARMS else None,
            )
            message = push.of_experiment(made)
            place = (push.named(made.experiment), str(made.epoch), push.named(made.metric), str(min(partitions)))
            replaces = experiment_channel(":".join(place))
            yield latest_record(self.names, message, conflation_key=replaces, now_ms=now_ms)


def _told_arms(rows: Mapping[Subject, Row[AbState]], control_arm: str) -> Collection[str]:
    """The control, which is told of also when it is the first by name, and the arms with the most units."""
    units = {arm: row.state.units for (_, _, arm, metric), row in rows.items() if metric == ASSIGNED}
    assigned = sorted(arm for arm, count in units.items() if count > 0)
    control = [control_arm] if control_arm in assigned else assigned[:1]
    return {*control, *sorted(set(assigned) - set(control), key=lambda arm: (-units[arm], arm))[: MOST_ARMS - 1]}


def _arm(arm: Arm) -> ArmResult:
    lift = arm.against.lift if arm.against else None
    told: dict[str, Any] = {"mean": arm.value, "stderr": arm.stderr, "p50": arm.p50, "p95": arm.p95}
    if isinstance(lift, Estimate):
        told |= {"lift": lift.value, "lift_low": lift.low, "lift_high": lift.high, "p_value": lift.p_value}
    # An interval of a lift over almost nothing may leave the range of floats; JSON has no word for that.
    finite = {name: value for name, value in told.items() if value is not None and isfinite(value)}
    n = arm.n if arm.values is None else arm.values
    return ArmResult(arm=arm.name, units=arm.units, n=n, conflicts=arm.conflicts, **finite)


def messages_of(settings: Settings) -> ExperimentMessages:
    """The messages' names and what they say of the settings."""
    return ExperimentMessages(Names.of(settings), settings.ab_results.control_arm, settings.kafka.partitions)
