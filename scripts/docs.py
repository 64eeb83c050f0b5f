"""Write the pages of docs/ that are printed from the code, or check that they are in step.

python scripts/docs.py           write
python scripts/docs.py --check   exit status 1 and the differing pages when one is out of step
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PACKAGES_WITH_METRICS = ("reliability", "streams", "tables", "agents", "gateway", "control")
DIFF_LINES = 20


def printed(*command: str) -> str:
    """What a program of ours prints, without the settings of whoever runs it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"}
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=DOCS, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        sys.exit(f"docs: python -m {' '.join(command)} ended with status {run.returncode}:\n{run.stderr}")
    return run.stdout


def metrics_page() -> str:
    """Every metric that a part declares, by module."""
    lines = ["# Metrics", "", "Printed from the code by `make docs`. Every process serves them at `/metrics`.", ""]
    for name, part in _parts():
        metrics = Metrics()
        own = {id(collector) for collector in metrics.registry._collector_to_names}  # noqa: SLF001 - no public way
        part(metrics)
        lines += [f"## {name}", "", "| metric | type | labels | what it says |", "|---|---|---|---|"]
        for collector in metrics.registry._collector_to_names:  # noqa: SLF001 - no public way
            labels = ", ".join(getattr(collector, "_labelnames", ()))
            for family in collector.collect() if id(collector) not in own else ():
                suffix = "_total" if family.type == "counter" else ""
                lines.append(f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |")
        lines.append("")
    return "\n".join(lines)


def _parts() -> Iterator[tuple[str, type]]:
    """Classes named `…Metrics`, which declare their part's metrics when built from a `Metrics`."""
    for package_name in PACKAGES_WITH_METRICS:
        package = importlib.import_module(package_name)
        for found in sorted(pkgutil.walk_packages(package.__path__, f"{package_name}."), key=lambda each: each.name):
            module = importlib.import_module(found.name)
            for name, member in inspect.getmembers(module, inspect.isclass):
                if name.endswith("Metrics") and member.__module__ == module.__name__:
                    yield f"{module.__name__}", member


PAGES = {
    "settings.md": lambda: printed("headrace", "settings"),
    "asyncapi.yaml": lambda: printed("contracts.asyncapi"),
    "metrics.md": metrics_page,
}


def main() -> int:
    """Exit status: 0 written or in step, 1 out of step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    DOCS.mkdir(exist_ok=True)
    status = 0
    for name, make in PAGES.items():
        page, text = DOCS / name, make()
        old = page.read_text() if page.exists() else ""
        if old == text:
            continue
        if not check:
            page.write_text(text)
            print(f"docs: wrote docs/{name}")
            continue
        status = 1
        print(f"docs: docs/{name} is not in step: run `make docs`")
        changes = difflib.unified_diff(old.splitlines(), text.splitlines(), "docs", "code", lineterm="", n=0)
        print("\n".join(list(changes)[:DIFF_LINES]))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
