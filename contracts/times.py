"""Times as whole numbers, exact: no float ever stands between a timestamp and its milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contracts.errors import ContractError, OutOfRange

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since the Unix epoch, rounded down; a moment without offset is taken as UTC."""
    return (_aware(moment) - EPOCH) // _MILLISECOND


def epoch_us(moment: datetime) -> int:
    """Microseconds since the Unix epoch; a moment without offset is taken as UTC."""
    return (_aware(moment) - EPOCH) // _MICROSECOND


def problem_of_moment(event: str, field: str, moment: datetime) -> ContractError | None:
    """What makes a moment unfit to place an event in a window; None when nothing does.

    Keys of rows hold the window's start as a number from 0 up, so that they sort as time does.
    """
    if _aware(moment) >= EPOCH:
        return None
    return OutOfRange(event=event, field=field, limit="must not be before 1970-01-01T00:00:00Z", value=moment)


def moment_of(ms: int) -> datetime:
    """The aware UTC datetime of milliseconds since the Unix epoch.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return EPOCH + timedelta(milliseconds=ms)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
