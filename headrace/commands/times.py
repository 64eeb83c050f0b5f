"""Times as people type them after an option."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time

from contracts.errors import SettingsError
from contracts.times import epoch_ms
from runtime.clock import Clock

_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RELATIVE = re.compile(r"now|(?:now)?-(\d{1,6})([smhd])")
HELP = "2026-03-01, 2026-03-01T12:00:00Z, now or now-90m (s, m, h, d)."


def instant_ms(text: str, option: str, clock: Clock) -> int:
    """Milliseconds since the Unix epoch of a date (its first moment, UTC), a time with offset, or a time before now.

    Raises:
        SettingsError: names the option, the forms and the text.
    """
    relative = _RELATIVE.fullmatch(text)
    if relative:
        count, unit = relative.groups()
        return int(1000 * clock.wall_s()) - (int(count) * _UNIT_MS[unit] if count else 0)
    try:
        is_date = len(text) == len("2026-03-01")
        moment = datetime.combine(date.fromisoformat(text), time(), UTC) if is_date else datetime.fromisoformat(text)
    except ValueError:
        moment = None
    # From the Unix epoch up to what is still a date in every offset.
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year < 9999:  # noqa: PLR2004
        raise SettingsError(f"{option}: must be {HELP[:-1]} (got {text[:40]!r})")
    return epoch_ms(moment)
