"""`endpoints.json`: where everything of a running `headrace dev` is, so that any other program can join in.

It holds tokens, hence mode 0600. It exists only while `headrace dev` runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headrace.devkit.files import write_private

FILE = "endpoints.json"


@dataclass(frozen=True)
class TenantAccess:
    """A sample tenant's id and a token for all its channels."""

    id: str
    token: str


@dataclass(frozen=True)
class Endpoints:
    """Every address of the run; `operator` is a token for /v1/control/ of gateway and control.

    `processes` are pids by child name; they change when a child is restarted.
    """

    pid: int
    page: str
    gateway: str
    control: str
    operator: str
    postgres: str
    redis: str
    kafka: str
    relay: str
    mirror: str
    workers: tuple[str, ...]
    tenants: dict[str, TenantAccess]
    logs: str
    processes: dict[str, int] = field(default_factory=dict)


def write(data_dir: Path, endpoints: Endpoints) -> None:
    """Write or replace the file, atomically."""
    write_private(data_dir / FILE, json.dumps(asdict(endpoints), indent=2) + "\n")


def remove(data_dir: Path) -> None:
    """Take the file away; it may be gone already."""
    (data_dir / FILE).unlink(missing_ok=True)
