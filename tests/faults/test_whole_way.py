"""The whole way from a committed row to a client and a table, under random faults: nothing lost, doubled or reordered.

`make test-faults` draws a small sample (another one every day; HEADRACE_TEST_SEED repeats it), `make test-faults-full`
does some two hundred kills and forty outages, on embedded and on real servers, and writes docs/faults.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.aio import run
from tests.support.engine_seed import draws
from tests.support.fault_plan import Fault, Kind, draw
from tests.support.fault_report import note
from tests.support.fault_run import PROCESSES, Outcome, run_faults

RATE_PER_S = 100.0
# The servers' starts, the processes' starts, and the wait for the last window at the end.
AROUND_S = 240.0
LONG_S = 120.0
# What the shop could not commit for minutes, it commits in the few seconds after: it shares two cores with all others.
LONG_RATE_PER_S = 30.0
SERVERS = ["embedded", pytest.param("real", marks=pytest.mark.system)]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: PostgreSQL's account must be able to walk to it when the tests run as root.
    with tempfile.TemporaryDirectory(prefix="headrace-faults-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def random_faults(folder: Path, what: str, *, servers: str, seconds: float, kills: int, outages: int) -> Outcome:
    """A run under faults that are drawn."""
    plan = draw(
        draws(what),
        seconds=seconds,
        processes=PROCESSES,
        kills=kills,
        outages=outages,
        durable_kafka=servers == "real",
    )
    return under_faults(folder, what, plan, servers=servers, seconds=seconds)


def under_faults(
    folder: Path, what: str, plan: Sequence[Fault], *, servers: str, seconds: float, rate_per_s: float = RATE_PER_S
) -> Outcome:
    """One run; its figures are printed, written down for docs/faults.md, and shown with the logs when it fails."""
    system = servers == "real"
    around = run_faults(folder, plan, seconds=seconds, rate_per_s=rate_per_s, system=system)
    outcome = run(around, timeout_s=seconds + AROUND_S)
    print(outcome)
    note(what, servers, outcome)
    if not outcome.clean:
        for log in sorted((folder / "logs").glob("*.log")):
            sys.stderr.write(f"---- {log.name}\n{log.read_text(errors='replace')[-4000:]}\n")
    return outcome


@pytest.mark.faults_sample
@pytest.mark.timeout(400)
@pytest.mark.parametrize("servers", SERVERS)
def test_a_sample_of_faults_loses_doubles_and_reorders_nothing(folder: Path, servers: str):
    outcome = random_faults(folder, f"sample {servers}", servers=servers, seconds=40, kills=10, outages=6)
    assert outcome.clean, str(outcome)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("turn", range(int(os.environ.get("HEADRACE_TEST_FAULT_TURNS", "3"))))
@pytest.mark.parametrize("servers", SERVERS)
def test_many_faults_lose_double_and_reorder_nothing(folder: Path, turn: int, servers: str):
    outcome = random_faults(folder, f"turn {turn} {servers}", servers=servers, seconds=200, kills=40, outages=12)
    assert outcome.clean, str(outcome)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("servers", SERVERS)
@pytest.mark.parametrize("away", ["postgres", "redis", "kafka"])
def test_an_outage_of_minutes_is_drained_in_order_when_it_is_over(folder: Path, away: str, servers: str):
    plan = [Fault(5.0, away, Kind.CUT, LONG_S)]
    outcome = under_faults(
        folder, f"{away} away, {servers}", plan, servers=servers, seconds=LONG_S + 15.0, rate_per_s=LONG_RATE_PER_S
    )
    assert outcome.clean, str(outcome)
