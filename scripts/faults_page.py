"""Write docs/faults.md from the figures that `make test-faults-full` left: `python scripts/faults_page.py FIGURES`.

FIGURES is a file of JSON lines, one a run, as tests/support/fault_report.py writes them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "faults.md"
JUDGED = ("lost", "doubled", "reordered", "uncommitted", "misdelivered", "windows_wrong", "dead_letters", "rows_left")
HEAD = """# What the fault suite found

`make test-faults-full` wrote this page. Each run is the whole way from the outbox to a listening client: two relays,
two mirrors, two workers and a gateway as real processes, against servers behind a proxy that can refuse, reset,
swallow, delay and lose answers; servers are also killed and started again, on another port, or without their last
second. What was committed is then held, event by event, against the topics, the client's ledger and the windows.
Embedded: Valkey, PostgreSQL and the in-memory broker of `make dev`. Real: Redis, PostgreSQL and Apache Kafka.
`HEADRACE_TEST_SEED`, printed by each run, repeats its draws.
"""


def page(runs: list[dict[str, Any]]) -> str:
    """The page as Markdown."""
    lines = [HEAD, "| run | servers | traffic | kills | freezes | outages | committed | " + " | ".join(JUDGED) + " |"]
    lines.append("|" + "---|" * (7 + len(JUDGED)))
    for run in runs:
        outages = sum(run["outages"].values())
        cells = [run["run"], run["servers"], f"{run['seconds']} s", run["kills"], run["freezes"], outages]
        cells += [run["committed"], *(run[name] for name in JUDGED)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    kinds: Counter[str] = Counter()
    for run in runs:
        kinds.update(run["outages"])
    total = {name: sum(run[name] for run in runs) for name in ("kills", "freezes", "committed", *JUDGED)}
    done = f"{total['kills']} kills, {total['freezes']} freezes, {sum(kinds.values())} outages"
    found = ", ".join(f"{total[name]} {name}" for name in JUDGED)
    lines += ["", f"In all: {done}; {total['committed']} events committed; {found}."]
    lines += ["", "| outage | times |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in sorted(kinds.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """0 when the page was written."""
    runs = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    PAGE.write_text(page(runs), encoding="utf-8")
    print(f"{PAGE.name}: {len(runs)} runs")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
