"""Move the fragments of changes/ into CHANGELOG.md under a version: `python scripts/changelog.py 0.2.0`."""

from __future__ import annotations

import datetime as dt
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
KINDS = ("added", "changed", "fixed", "removed", "security")
FRAGMENT = re.compile(rf"^\d+-[a-z0-9-]+\.({'|'.join(KINDS)})\.md$")


def fragments() -> list[Path]:
    """All fragments, in the order of their names."""
    return sorted(path for path in (ROOT / "changes").glob("*.md") if path.name != "README.md")


def section(version: str, day: dt.date, files: list[Path]) -> str:
    """The text of one version, by kind."""
    lines = [f"## {version} ({day.isoformat()})", ""]
    for kind in KINDS:
        texts = [" ".join(path.read_text().split()) for path in files if path.name.endswith(f".{kind}.md")]
        if texts:
            lines += [f"### {kind.capitalize()}", "", *(f"- {text}" for text in texts), ""]
    return "\n".join(lines)


def main() -> int:
    """Exit status: 0 written, 1 nothing to write or a wrong version."""
    version = sys.argv[1] if len(sys.argv) == 2 else ""
    files = fragments()
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or not files:
        print("usage: python scripts/changelog.py X.Y.Z (and at least one fragment in changes/)")
        return 1
    day = dt.datetime.now(dt.UTC).date()
    head, *older = CHANGELOG.read_text().split("\n## ")
    older_text = "".join(f"\n## {text}" for text in older)
    CHANGELOG.write_text(f"{head.rstrip()}\n\n{section(version, day, files)}{older_text}")
    for path in files:
        path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
