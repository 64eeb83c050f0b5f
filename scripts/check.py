"""Everything that can be judged without running the product. All checks run; the exit status says if all passed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS: dict[str, list[str]] = {
    "style": [f"{BIN}/ruff", "check", "--quiet", "--output-format", "concise", "."],
    "format": [f"{BIN}/ruff", "format", "--quiet", "--check", "."],
    "types": [f"{BIN}/mypy"],
    "layers": [f"{BIN}/lint-imports", "--no-cache"],
    "dead code": [f"{BIN}/vulture"],
    "dependencies": [f"{BIN}/deptry", "."],
    "lock in step": [sys.executable, "scripts/lock.py", "--check"],
    "docs in step": [sys.executable, "scripts/docs.py", "--check"],
}


def passed(name: str, command: list[str], folder: Path = ROOT) -> bool:
    """Run one check; its output is shown only when it fails."""
    started = time.monotonic()
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    good = run.returncode == 0
    print(f"{'ok    ' if good else 'FAILED'}  {name:<14} {time.monotonic() - started:5.1f} s", flush=True)
    if not good:
        print(f"{run.stdout}{run.stderr}".strip(), flush=True)
    return good


def compose_is_clean() -> bool:
    """`docker-compose config` on a copy, with the example's settings, where docker-compose is installed."""
    program = shutil.which("docker-compose")
    if program is None:
        print("--      compose file   (docker-compose is not installed)")
        return True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "docker-compose.yml", folder)
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        shutil.copy(ROOT / ".env.example", folder / ".env")
        return passed("compose file", [program, "config", "-q"], folder)


def alerts_fire() -> bool:
    """The alert rules' own tests, where promtool (of Prometheus) is installed."""
    program = shutil.which("promtool")
    if program is None:
        print("--      alert rules    (promtool is not installed)")
        return True
    return passed("alert rules", [program, "test", "rules", "alert-rules.test.yml"], ROOT / "deploy")


def main() -> int:
    """0 when every check passed."""
    results = [passed(name, command) for name, command in CHECKS.items()]
    results += [compose_is_clean(), alerts_fire()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
