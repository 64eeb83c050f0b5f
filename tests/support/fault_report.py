"""The figures of the fault suite's runs, a JSON line each, from which scripts/faults_page.py writes docs/faults.md."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from tests.support.fault_plan import Kind
from tests.support.fault_run import PROCESSES, Outcome
from tests.support.fault_sights import CLIENT, PUSHED

FILE = "HEADRACE_TEST_FAULTS_REPORT"
JUDGED = ("lost", "doubled", "reordered", "uncommitted", "misdelivered")


def note(what: str, servers: str, outcome: Outcome) -> None:
    """Append the run's figures to the file that HEADRACE_TEST_FAULTS_REPORT names, if it names one."""
    path = os.environ.get(FILE)
    if not path:
        return
    kinds = Counter(fault.kind for fault in outcome.plan if fault.target in PROCESSES)
    outages = Counter(f"{fault.target}: {fault.kind.value}" for fault in outcome.plan if fault.target not in PROCESSES)
    verdicts = outcome.judgement.verdicts
    figures: dict[str, object] = {
        "run": what,
        "servers": servers,
        "seconds": round(outcome.seconds),
        "kills": kinds[Kind.KILL],
        "freezes": kinds[Kind.FREEZE],
        "outages": dict(sorted(outages.items())),
        "committed": sum(verdict.committed for verdict in verdicts if verdict.place not in (PUSHED, CLIENT)),
    }
    figures |= {name: sum(getattr(verdict, name) for verdict in verdicts) for name in JUDGED}
    figures |= {
        "windows": outcome.report.windows_checked,
        "windows_wrong": outcome.report.windows_wrong + outcome.report.pushed_wrong,
        "dead_letters": len(outcome.judgement.dead_letters),
        "rows_left": outcome.judgement.unprocessed,
    }
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")
