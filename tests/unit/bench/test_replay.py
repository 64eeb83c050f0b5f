from __future__ import annotations

from bench.replay import figures

DRY = "read: 1,000,004 records in 2.5 s\n10,000 windows from 1,000,004 records: 10,000 new\ndry run: nothing was sent\n"
REAL = (
    "read: 40 of 1,000,004 records, 4/s, about 9 s left\nread: 1,000,004 records in 2.5 s\nsend: 10,000 rows in 1.5 s\n"
    "10,000 windows from 1,000,004 records: 10,000 new\n10,000 rows replaced, 0 were so already\n"
)


def test_a_replays_figures_are_its_own_words_and_the_whole_time_of_its_process():
    assert figures(1_000_000, 5.0, 3.04, REAL) == {
        "replay_events_per_s": 200_000,
        "read_s": 2.5,
        "send_s": 1.5,
        "other_s": 1.0,
        "cpu_s": 3.0,
        "rows_replaced": 10_000,
    }


def test_a_dry_run_sends_and_replaces_nothing():
    dry = figures(1_000_000, 4.0, 3.0, DRY)
    assert (dry["read_s"], dry["send_s"], dry["other_s"], dry["rows_replaced"]) == (2.5, 0.0, 1.5, 0)
