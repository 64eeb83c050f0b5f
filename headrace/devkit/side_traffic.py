"""What goes on beside the sample shop's orders and tool calls: searches, an experiment, voice sessions. Pure, endless.

Each adds about a tenth to the shop's traffic. Events come complete: their times follow from when the shop opened, not
from when they are committed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime

from headrace.devkit.draws import Uniform
from headrace.devkit.sample_experiment import experiment
from headrace.devkit.sample_searches import searches
from headrace.devkit.sample_voice import sessions
from headrace.devkit.side_step import SideStep

SEARCH_SHARE = 0.1
# Of units, which have about five events each.
UNIT_SHARE = 0.02
# Of sessions, which make one report a second each; at least one goes on at any time.
SESSION_SHARE = 0.1
MOST_SESSIONS = 50


def side_plan(*, rate_per_s: float, run: str, uniform: Uniform, opened_at: datetime) -> Iterator[SideStep]:
    """All steps beside a shop of `rate_per_s`, in order of their due time, without end.

    Args:
        rate_per_s: steps a second of the shop; > 0.
        run: makes the ids of this run its own.
        uniform: where the randomness comes from, e.g. `clock.uniform`.
        opened_at: the moment from which `at_s` counts, aware.
    """
    lines = max(1, min(MOST_SESSIONS, round(rate_per_s * SESSION_SHARE)))
    return heapq.merge(
        searches(rate_per_s * SEARCH_SHARE, run, uniform, opened_at),
        experiment(rate_per_s * UNIT_SHARE, run, uniform, opened_at),
        *(sessions(f"{run} line {line}", uniform, opened_at) for line in range(lines)),
        key=lambda step: step.at_s,
    )
