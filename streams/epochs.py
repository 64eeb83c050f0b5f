"""Which records of a source topic count: not those that a mirror's former owner sent and that came too late. Pure.

Where it stands: `streams.mirror_session` writes epochs and fences; whoever reads a source topic (the worker through
`streams.batch_thread`, replay and archive through `streams.log_range`, the next mirror through `streams.mirror_plan`)
asks here. Every record of a mirror carries the epoch of its sender's turn at the stream, and epochs rise from turn to
turn. The rule, for each partition:

    A record of a mirror counts unless one with a higher epoch stands before it. A fence never counts.
    A record without an epoch (some other producer's) always counts.

Why that loses nothing and doubles nothing, on a broker without transactions too:

1. Who takes a stream over and cannot know that the last owner has nothing in flight writes a *fence*, a record that
   only has an epoch, into every partition, and reads the log up to it before it sends anything.
2. What a former owner's request brings in before the fence is seen there, counts, and is not sent again.
3. What it brings in behind the fence does not count. It was not seen, and no position covers it, since a position is
   stored only after its records were acknowledged: so the new owner sends it, if it did not already.
4. Epochs of one partition fall only where a former owner is late, so nothing else is ever left out.

Who begins to read in the middle looks back for the highest epoch, over more records than former owners can bring in
late and back to back (each at most one batch), else the answer would depend on where one began.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from streams.record_chunk import Run
    from streams.records import Headers

EPOCH = "epoch"
FENCE = "fence"
# A fence has a key, so that a topic that somebody compacts takes it.
FENCE_KEY = b"fence"
# Most entries in a mirror's batch (mirror.batch_entries), and so the most that comes late of one owner.
MOST_ENTRIES = 1_000
# Records that are looked at before the first one: two late batches of the largest kind fit in, four of the usual.
LOOKBACK = 2 * MOST_ENTRIES + 100
# Enough for the year 33658 in ms, and exact in the numbers of a Redis script.
_DIGITS = 15


class _HasHeaders(Protocol):
    @property
    def headers(self) -> Headers: ...


Found = TypeVar("Found", bound=_HasHeaders)
Place = TypeVar("Place", bound=Hashable)


def epoch_of(headers: Headers) -> int | None:
    """The epoch in a record's headers; None: it is not a mirror's, or what stands there is no number."""
    for name, value in reversed(headers):
        if name == EPOCH:
            digits = value or b""
            return int(digits) if digits.isdigit() and len(digits) <= _DIGITS else None
    return None


def is_fence(headers: Headers) -> bool:
    """Whether a record is a fence: it has no event."""
    return len(headers) > 0 and headers[0][0] == FENCE


def fence_headers(epoch: int) -> Headers:
    """The headers of a fence."""
    return [(FENCE, b"1"), (EPOCH, b"%d" % epoch)]


def admitted(records: Iterable[Found], highest_before: int = 0) -> list[Found]:
    """The records of one partition that count, given in the order of the log."""
    return _split(records, highest_before)[0]


class Epochs(Generic[Place]):
    """The highest epoch before the next record of each partition, for who reads several. A few ints a partition."""

    def __init__(self) -> None:
        self._highest: dict[Place, int] = {}

    def begin(self, place: Place, highest_before: int) -> None:
        """Reading goes on behind records whose highest epoch is this."""
        self._highest[place] = highest_before

    def highest(self) -> dict[Place, int]:
        """The highest epoch so far of each partition that was begun."""
        return dict(self._highest)

    def admit(self, place: Place, records: Iterable[Found]) -> list[Found]:
        """The records that count."""
        kept, self._highest[place] = _split(records, self._highest[place])
        return kept

    def admit_runs(self, place: Place, runs: Sequence[Run]) -> list[Run]:
        """The runs that count. A run is one batch of one sender, so its first record speaks for all of them.

        Costs a look at one record's headers for each batch.
        """
        kept = []
        above = self._highest[place]
        for run in runs:
            headers = run.records[0].headers
            epoch = epoch_of(headers)
            above = max(above, epoch or 0)
            if not is_fence(headers) and (epoch is None or epoch >= above):
                kept.append(run)
        self._highest[place] = above
        return kept


def _split(records: Iterable[Found], above: int) -> tuple[list[Found], int]:
    kept = []
    for record in records:
        epoch = epoch_of(record.headers)
        above = max(above, epoch or 0)
        if not is_fence(record.headers) and (epoch is None or epoch >= above):
            kept.append(record)
    return kept, above
