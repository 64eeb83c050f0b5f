"""What a process says of itself: alive (restart me if not) and ready (send me work if so)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One named condition: whether it holds, and in words why or why not."""

    ok: bool
    detail: str


class Health:
    """Named checks of one process. Ready needs every one of `needs`; alive needs every live check that was set."""

    def __init__(self, needs: tuple[str, ...] = ()) -> None:
        self._ready: dict[str, Check] = {name: Check(ok=False, detail="not started") for name in needs}
        self._live: dict[str, Check] = {}

    def set_ready(self, name: str, *, ok: bool, detail: str = "") -> None:
        """Say whether a condition for taking work holds."""
        self._ready[name] = Check(ok, detail)

    def set_live(self, name: str, *, ok: bool, detail: str = "") -> None:
        """Say whether the process still makes progress; false asks the orchestrator to restart it."""
        self._live[name] = Check(ok, detail)

    @property
    def ready(self) -> bool:
        """Whether all conditions for taking work hold."""
        return all(check.ok for check in self._ready.values())

    @property
    def live(self) -> bool:
        """Whether the process still makes progress."""
        return all(check.ok for check in self._live.values())

    def as_json(self) -> dict[str, dict[str, dict[str, object]]]:
        """Both lists, for /healthz and /readyz."""
        return {
            kind: {name: {"ok": check.ok, "detail": check.detail} for name, check in checks.items()}
            for kind, checks in (("ready", self._ready), ("live", self._live))
        }
