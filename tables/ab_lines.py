"""Compared arms as lines, one for each experiment, epoch, metric and arm: what answers about ab_results add. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tables.ab_compare import Arm, Result, compare
from tables.ab_results import AbState
from tables.rows import Subject
from tables.shares import Line
from tables.stats import Estimate, Undefined


def comparison(rows: Mapping[Subject, AbState], *, control_arm: str) -> list[Line]:
    """The arms of all experiments in merged rows of one tenant; needs the rows of all arms and metrics."""
    return [_line(result, arm) for result in compare(rows, control_arm=control_arm) for arm in result.arms]


def _line(result: Result, arm: Arm) -> Line:
    line: Line = {
        "experiment": result.experiment,
        "epoch": result.epoch,
        "metric": result.metric,
        "kind": result.kind,
        "arm": arm.name,
        "control": arm.name == result.control,
        "units": arm.units,
        "conflicts": arm.conflicts,
        "n": arm.n,
        "value": arm.value,
        "stderr": arm.stderr,
        "p50": arm.p50,
        "p95": arm.p95,
    }
    against = arm.against
    line |= _estimate("difference", None if against is None else against.difference)
    line |= _estimate("lift", None if against is None else against.lift)
    line["p_value"] = against.difference.p_value if against and isinstance(against.difference, Estimate) else None
    line |= _estimate("adjusted_difference", None if against is None else against.adjusted_difference)
    line |= _estimate("adjusted_lift", None if against is None else against.adjusted_lift)
    adjusted = against.adjusted_difference if against else None
    line["adjusted_p_value"] = adjusted.p_value if isinstance(adjusted, Estimate) else None
    undefined = against.difference if against and isinstance(against.difference, Undefined) else None
    return line | {"why_not": None if undefined is None else undefined.value}


def _estimate(name: str, estimate: Estimate | Undefined | None) -> Line:
    if not isinstance(estimate, Estimate):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
