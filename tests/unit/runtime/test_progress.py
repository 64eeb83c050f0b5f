"""When a partition counts as standing still."""

from __future__ import annotations

from datetime import UTC, datetime

from runtime.clock import ManualClock
from runtime.progress import Progress, Standing


class Watched:
    """One partition under a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.progress: Progress[str] = Progress()

    def after(self, seconds: float, done: int, end: int, *, excused: bool = False) -> float:
        """For how long it has stood still at a look that comes `seconds` later; 0: it has not."""
        self.clock.advance(seconds)
        stalls = self.progress.look({"p": Standing(done, end, excused)}, self.clock.monotonic_s())
        return stalls[0].for_s if stalls else 0.0


def test_a_partition_with_records_and_no_commit_stands_still_since_its_first_look():
    watched = Watched()
    assert watched.after(0, 5, 9) == 0
    assert watched.after(3, 5, 9) == 3
    assert watched.after(4, 5, 12) == 7


def test_a_commit_however_small_starts_the_time_anew():
    watched = Watched()
    watched.after(0, 5, 100)
    watched.after(9, 5, 100)
    assert watched.after(1, 6, 100) == 0
    assert watched.after(2, 6, 100) == 2


def test_a_partition_that_is_done_never_stands_still_however_long_nothing_comes():
    watched = Watched()
    watched.after(0, 5, 5)
    assert watched.after(1000, 5, 5) == 0
    assert watched.after(1, 5, 6) == 1  # since the last look at which it was done


def test_waiting_for_a_server_that_is_away_is_no_standing_still_and_the_time_starts_when_it_is_back():
    watched = Watched()
    watched.after(0, 5, 9)
    assert watched.after(100, 5, 9, excused=True) == 0
    assert watched.after(7, 5, 9) == 7


def test_a_log_that_was_emptied_is_nothing_to_do():
    watched = Watched()
    watched.after(0, 500, 600)
    assert watched.after(50, 500, 3) == 0


def test_a_partition_that_went_away_and_came_back_starts_afresh():
    watched = Watched()
    watched.after(0, 5, 9)
    watched.progress.look({}, watched.clock.monotonic_s())
    assert watched.after(50, 5, 9) == 0


def test_the_one_that_stands_longest_comes_first():
    progress: Progress[int] = Progress()
    progress.look({1: Standing(0, 5), 2: Standing(0, 5)}, 10.0)
    progress.look({1: Standing(1, 5), 2: Standing(0, 5)}, 12.0)
    stalls = progress.look({1: Standing(1, 5), 2: Standing(0, 5)}, 15.0)
    assert [(stall.place, stall.for_s) for stall in stalls] == [(2, 5.0), (1, 3.0)]
