"""A reader waits for an offset that is missing, but not for ever."""

from __future__ import annotations

import pytest

from streams import gaps
from streams.gaps import Gaps
from streams.records import Record
from tests.support.aio import run


def records(*offsets: int) -> list[Record]:
    return [Record("t", 0, offset, 0, None, b"", []) for offset in offsets]


def took(found: Gaps, position: int, *offsets: int) -> tuple[list[int], int]:
    taken, next_offset = found.before(position, records(*offsets), offsets[-1] + 1)
    return [record.offset for record in taken], next_offset


def test_what_stands_behind_a_gap_is_taken_when_the_gap_is_filled():
    async def scenario() -> None:
        found = Gaps()
        assert took(found, 5, 5, 6, 8, 9) == ([5, 6], 7)
        assert took(found, 7, 8, 9) == ([], 7)
        assert took(found, 7, 7, 8, 9) == ([7, 8, 9], 10)
        assert took(found, 10, 10, 11) == ([10, 11], 12)

    run(scenario())


def test_a_gap_that_stays_is_left_and_the_next_one_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        found = Gaps()
        assert took(found, 5, 7, 9) == ([], 5)
        monkeypatch.setattr(gaps, "WAIT_S", 0.0)
        assert took(found, 5, 7, 9) == ([7], 8)
        assert took(found, 8, 9) == ([9], 10)

    run(scenario())


def test_partitions_are_waited_for_each_by_itself(monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        found = Gaps()
        assert not found.may_go_on("t", 0, 5)
        monkeypatch.setattr(gaps, "WAIT_S", 0.0)
        assert not found.may_go_on("t", 1, 5)
        assert found.may_go_on("t", 0, 5)

    run(scenario())
