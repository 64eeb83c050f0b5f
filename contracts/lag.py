"""How far behind the platform is, as the page shows it."""

from __future__ import annotations

import msgspec

from contracts.fields import Count, Moment, Seconds


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """What waits where at `at` (aware): outbox rows not published, stream entries not mirrored, records not folded.

    The `_s` fields are the age in seconds of the oldest of them, 0 when there are none.
    """

    outbox_rows: Count
    outbox_oldest_s: Seconds
    stream_entries: Count
    stream_oldest_s: Seconds
    consumer_records: Count
    at: Moment
