"""A sample experiment: does a shorter greeting sell more? Pure, endless.

A ramp of two steps (10 %, then 50 % of units see the treatment). Each unit has an exposure and up to five outcomes, one
of each kind of metric and perhaps one from before it came. Repeats have the id and time of the first; what is late was
measured in time, but is committed seconds after, so that outcomes may stand before the exposure that they follow.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from contracts.experiments import AbTestAssignment, AbTestOutcome, MetricKind
from contracts.names import CONTRACT_VERSION, TenantId
from headrace.devkit import draws
from headrace.devkit.draws import Uniform
from headrace.devkit.side_step import SideStep, moment
from headrace.devkit.tenants import seeded_uuid4

EXPERIMENT = "greeting"
CONTROL, TREATMENT = "long", "short"
# The treatment's share in each step of the ramp, and how long the first lasts.
RAMP = (0.1, 0.5)
RAMP_STEP_S = 30.0
# By how much more the treatment sells.
LIFT = 1.08
ACTS_WITHIN_S = 6.0
EARLIER_S = (60.0, 3600.0)
EARLIER_SHARE = 0.5
LATE_SHARE = 0.1
LATE_S = (5.0, 15.0)
REPEAT_SHARE = 0.05
REPEAT_S = (0.2, 5.0)


@dataclass(frozen=True)
class _Unit:
    """One visitor, who comes `at_s` seconds after the opening and usually spends `spends`."""

    id: str
    tenant_id: TenantId
    at_s: float
    arm: str
    epoch: int
    spends: float
    opened_at: datetime

    def exposure(self) -> AbTestAssignment:
        """Seeing the arm."""
        return AbTestAssignment(
            version=CONTRACT_VERSION,
            tenant_id=self.tenant_id,
            experiment=EXPERIMENT,
            arm=self.arm,
            unit=self.id,
            ts=moment(self.opened_at, self.at_s),
            epoch=self.epoch,
            event_id=f"{self.id}:exposure",
        )

    def outcome(
        self, metric: str, kind: MetricKind, happens_s: float, value: float, denominator: float | None = None
    ) -> AbTestOutcome:
        """Something measured of the unit, `happens_s` seconds after the opening."""
        return AbTestOutcome(
            version=CONTRACT_VERSION,
            tenant_id=self.tenant_id,
            experiment=EXPERIMENT,
            unit=self.id,
            metric=metric,
            kind=kind,
            value=round(value, 2),
            ts=moment(self.opened_at, happens_s),
            denominator=denominator,
            event_id=f"{self.id}:{metric}:{round(happens_s * 1000)}",
        )


def experiment(units_per_s: float, run: str, uniform: Uniform, opened_at: datetime) -> Iterator[SideStep]:
    """All events of the experiment in order of their due time; about five for each unit."""
    waiting: list[tuple[float, int, SideStep]] = []
    number = pushed = 0
    while True:
        at_s = (number + uniform(0.0, 0.5)) / units_per_s
        while waiting and waiting[0][0] <= at_s:
            yield heapq.heappop(waiting)[2]
        unit = _arriving(at_s, seeded_uuid4(f"{run} unit {number}"), uniform, opened_at)
        for happens_s, event in _events(unit, uniform):
            for due_s in _commits(max(at_s, happens_s), uniform):
                heapq.heappush(waiting, (due_s, pushed, SideStep(due_s, "experiment", unit.id, event)))
                pushed += 1
        number += 1


def _arriving(at_s: float, unit: str, uniform: Uniform, opened_at: datetime) -> _Unit:
    epoch = min(int(at_s / RAMP_STEP_S), len(RAMP) - 1)
    arm = TREATMENT if draws.chance(RAMP[epoch], uniform) else CONTROL
    tenant_id = TenantId(draws.tenant(uniform).id)
    return _Unit(unit, tenant_id, at_s, arm, epoch, draws.lognormal(20.0, 0.4, uniform), opened_at)


def _events(unit: _Unit, uniform: Uniform) -> Iterator[tuple[float, AbTestAssignment | AbTestOutcome]]:
    """What happens to a unit, and when."""
    lift = LIFT if unit.arm == TREATMENT else 1.0
    yield unit.at_s, unit.exposure()
    if draws.chance(EARLIER_SHARE, uniform):
        earlier_s = unit.at_s - uniform(*EARLIER_S)
        yield earlier_s, unit.outcome("spent", "mean", earlier_s, unit.spends * uniform(0.8, 1.2))
    acts_s = unit.at_s + uniform(0.5, ACTS_WITHIN_S)
    yield acts_s, unit.outcome("spent", "mean", acts_s, unit.spends * uniform(0.8, 1.2) * lift)
    yield acts_s, unit.outcome("ordered", "binary", acts_s, float(draws.chance(0.4 * lift, uniform)))
    offers = round(uniform(1.0, 5.0))
    taken = sum(draws.chance(0.3 * lift, uniform) for _ in range(offers))
    yield acts_s, unit.outcome("upsells_per_offer", "ratio", acts_s, taken, float(offers))
    yield acts_s, unit.outcome("decided_s", "quantile", acts_s, acts_s - unit.at_s)


def _commits(happens_s: float, uniform: Uniform) -> Iterator[float]:
    """When an event is committed: once as a rule, perhaps late, perhaps twice."""
    due_s = happens_s + (uniform(*LATE_S) if draws.chance(LATE_SHARE, uniform) else 0.0)
    yield due_s
    if draws.chance(REPEAT_SHARE, uniform):
        yield due_s + uniform(*REPEAT_S)
