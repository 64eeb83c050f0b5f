"""Listening time: it runs while the reader is at the log's end, and for nothing else."""

from __future__ import annotations

import pytest

from agents.listening import Listening
from streams.log_ends import EndSeen

GAP_S = 1.0


class Broker:
    """What a broker answered last, and a reader of it."""

    def __init__(self) -> None:
        self.answer: EndSeen | None = None
        self.now_s = 1000.0
        self.reader = Listening(lambda: self.answer, longest_gap_s=GAP_S)

    def at_end(self, seconds: float, *, last: int = -1) -> float:
        """Answers come for so long that there is nothing more behind `last`; the listening time afterwards."""
        for _ in range(round(4 * seconds)):
            self.now_s += 0.25
            self.answer = EndSeen(int(1000 * self.now_s), last)
            self.reader.at(self.now_s)
        return self.reader.at(self.now_s)

    def away(self, seconds: float) -> float:
        """Nothing is answered; the listening time afterwards."""
        for _ in range(round(4 * seconds)):
            self.now_s += 0.25
            self.reader.at(self.now_s)
        return self.reader.at(self.now_s)


def test_it_runs_while_answers_come_on_a_quiet_topic():
    broker = Broker()
    assert broker.at_end(60) == pytest.approx(59.75)


def test_it_stands_while_the_broker_is_away_and_an_outage_counts_for_one_gap():
    broker = Broker()
    before_s = broker.at_end(10)
    assert broker.away(300) == before_s
    assert broker.at_end(0.25) == before_s + GAP_S
    assert broker.at_end(10) == pytest.approx(before_s + GAP_S + 10)


def test_it_does_not_begin_before_the_first_answer():
    assert Broker().away(60) == 0


def test_a_worker_that_was_frozen_did_not_listen():
    broker = Broker()
    before_s = broker.at_end(10)
    broker.now_s += 300
    assert broker.at_end(0.25) == before_s + GAP_S


def test_it_stands_until_what_was_read_is_folded():
    broker = Broker()
    before_s = broker.at_end(10)
    assert broker.at_end(60, last=7) == before_s
    broker.reader.folded(6)
    assert broker.at_end(0.25, last=7) == before_s
    broker.reader.folded(7)
    assert broker.at_end(10, last=7) == pytest.approx(before_s + GAP_S + 10, abs=0.3)


def test_it_runs_under_a_steady_flow_of_which_some_is_always_on_its_way():
    broker = Broker()
    for offset in range(400):
        broker.reader.folded(offset - 1)
        broker.at_end(0.25, last=offset)
    assert broker.reader.at(broker.now_s) == pytest.approx(100, abs=1)


def test_a_partition_sought_back_does_not_wait_for_what_was_read_before():
    broker = Broker()
    before_s = broker.at_end(10)
    broker.at_end(1, last=50)
    assert broker.at_end(10, last=-1) > before_s + 9
    broker.at_end(1, last=50)
    broker.answer = None
    broker.away(1)
    assert broker.at_end(10, last=-1) > before_s + 18
