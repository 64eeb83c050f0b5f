"""What `headrace dev` was asked to do, checked before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contracts.errors import SettingsError

KILLABLE = ("relay", "mirror", "worker", "gateway", "control")
EMBEDDED = "embedded"
APACHE = "apache"


@dataclass(frozen=True)
class Kill:
    """Fault injection: SIGKILL child `name` `at_s` seconds into the traffic; `wipe` also deletes its state."""

    name: str
    at_s: float
    wipe: bool = False


def parse_kill(text: str) -> Kill:
    """Read NAME:AT_S or NAME:AT_S:wipe; NAME is relay, mirror, gateway, control, worker or worker-N (counted from 1).

    Raises:
        SettingsError: anything else.
    """
    name, _, rest = text.partition(":")
    at, _, extra = rest.partition(":")
    known = name.partition("-")[0] if name.startswith("worker") else name
    try:
        at_s = float(at)
    except ValueError:
        at_s = -1.0
    wipe_of_no_worker = extra == "wipe" and known != "worker"
    if known not in KILLABLE or not 0 <= at_s < float("inf") or extra not in ("", "wipe") or wipe_of_no_worker:
        raise SettingsError(f"--kill: NAME:SECONDS[:wipe] with NAME one of {', '.join(KILLABLE)} (got {text!r})")
    return Kill("worker-1" if name == "worker" else name, at_s, wipe=extra == "wipe")


@dataclass(frozen=True)
class DevOptions:
    """Options of one run; `rate_per_s` is over all tenants, `duration_s` None means until stopped."""

    data_dir: Path
    postgres_url: str | None = None
    redis_url: str | None = None
    kafka: str = EMBEDDED
    port: int | None = None
    workers: int = 1
    rate_per_s: float = 20.0
    duration_s: float | None = None
    traffic: bool = True
    open_browser: bool = False
    json_output: bool = False
    kills: tuple[Kill, ...] = ()

    def check(self) -> None:
        """Raise SettingsError, naming the option, for values that contradict each other."""
        if self.duration_s is not None and not self.traffic:
            raise SettingsError("--duration: needs traffic to check (got --no-traffic)")
        if self.json_output and self.duration_s is None:
            raise SettingsError("--json: needs --duration, which makes the run end and report")
        names = {"relay", "mirror", "gateway", "control", *(f"worker-{n}" for n in range(1, self.workers + 1))}
        for kill in self.kills:
            if kill.name not in names:
                raise SettingsError(f"--kill: there is no {kill.name} with --workers {self.workers}")
            if self.duration_s is None or kill.at_s >= self.duration_s:
                raise SettingsError(f"--kill: {kill.name} at {kill.at_s:g} s is not within --duration")
