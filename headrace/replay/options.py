"""What a replay is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import ReplayRefused, SettingsError
from contracts.names import TenantId
from contracts.times import moment_of
from runtime.settings_tables import TableSettings
from tables.catalogue import catalogue
from tables.recompute import TimeRange

if TYPE_CHECKING:
    from runtime.settings import Settings
    from tables.fold import TableKind

DEFAULT_STATE = Path(".headrace/replay")


@dataclass(frozen=True)
class ReplayOptions:
    """One replay. Times are event times in milliseconds since the epoch, as they were asked for."""

    table: str
    asked: TimeRange
    tenant_id: TenantId | None = None
    rate_per_s: float | None = None
    """Records read a second; None: as fast as they come."""
    dry_run: bool = False
    force: bool = False
    archive: Path | None = None
    state: Path = DEFAULT_STATE
    json_output: bool = False


def table_of(settings: Settings, name: str) -> TableKind[Any]:
    """The table of the name.

    Raises:
        SettingsError: there is none.
        ReplayRefused: it has no windows.
    """
    tables = catalogue(settings)
    if name not in tables:
        raise SettingsError(f"TABLE: must be one of {', '.join(tables)} (got {name[:40]!r})")
    if tables[name].size_ms == 0:
        raise ReplayRefused(
            f"replay: {name} has one row for all time, which no time range can recompute; "
            "to build it anew, give its worker a new HEADRACE_WORKER__GROUP (docs/replay.md)"
        )
    return tables[name]


def lengths_of(settings: Settings, kind: TableKind[Any]) -> TableSettings:
    """A table's settings; tables of one fold share theirs (audio_quality and audio_quality_tenant)."""
    groups = {name: getattr(settings, name) for name in type(settings).model_fields}
    named = {name: group for name, group in groups.items() if isinstance(group, TableSettings)}
    return named[max((name for name in named if kind.name.startswith(name)), key=len)]


def whole_windows(options: ReplayOptions, size_ms: int, now_ms: int) -> TimeRange:
    """The windows that lie in the range entirely and are over.

    Raises:
        ReplayRefused: there is none.
    """
    span = options.asked._replace(to_ms=min(options.asked.to_ms, now_ms)).whole(size_ms)
    if span.from_ms >= span.to_ms:
        shown = " to ".join(moment_of(at_ms).isoformat() for at_ms in options.asked)
        raise ReplayRefused(
            f"replay: no whole window of {size_ms / 1000:g} s that is over lies in {shown}; ask for a longer range"
        )
    return span
