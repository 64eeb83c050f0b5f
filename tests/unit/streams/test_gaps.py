"""A reader waits for an offset that is missing, but not for ever."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from streams import gaps
from streams.gaps import LEAST_LOOKS, Gaps
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


def test_a_gap_is_one_for_good_after_a_time_and_enough_looks_and_stays_one(monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        found = Gaps()
        monkeypatch.setattr(gaps, "WAIT_S", 60.0)
        for _look in range(LEAST_LOOKS + 5):
            assert took(found, 5, 7, 9) == ([], 5), "there were looks enough, but no time"
        monkeypatch.setattr(gaps, "WAIT_S", 0.0)
        assert took(found, 5, 7) == ([7], 8)
        assert took(found, 5, 7) == ([7], 8), "another reader does not wait again"

    run(scenario())


def test_time_without_looks_says_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gaps, "WAIT_S", 0.0)

    async def scenario() -> None:
        found = Gaps()
        assert [found.may_take("t", 0, 5, 7) for _look in range(LEAST_LOOKS + 1)] == [*[False] * LEAST_LOOKS, True]

    run(scenario())


def test_each_gap_is_waited_for_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gaps, "WAIT_S", 0.0)

    async def scenario() -> None:
        found = Gaps()
        for _look in range(LEAST_LOOKS):
            assert not found.may_take("t", 0, 5, 7)
            assert not found.may_take("t", 0, 20, 22)
        assert found.may_take("t", 0, 5, 7)
        assert not found.may_take("t", 1, 5, 7)

    run(scenario())


def test_what_was_found_out_is_forgotten_when_nobody_comes_by(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gaps, "WAIT_S", 0.0)
    monkeypatch.setattr(gaps, "LEAST_LOOKS", 0)

    async def scenario() -> None:
        found = Gaps()
        assert found.may_take("t", 0, 5, 7)
        monkeypatch.setattr(gaps, "FORGET_S", 0.0)
        assert found.may_take("t", 0, 20, 22)
        monkeypatch.setattr(gaps, "LEAST_LOOKS", 3)
        assert not found.may_take("t", 0, 5, 7)

    run(scenario())


def test_readers_pause_once_for_each_look_at_a_gap_that_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    pauses = list[float]()

    async def paused(pause_s: float) -> None:
        pauses.append(pause_s)

    async def scenario() -> None:
        monkeypatch.setattr(gaps, "asyncio", SimpleNamespace(sleep=paused, get_running_loop=asyncio.get_running_loop))
        found = Gaps()
        await found.pause()
        assert not found.may_take("t", 0, 5, 7)
        await found.pause()
        await found.pause()
        assert found.may_take("t", 0, 5, 5)
        await found.pause()

    run(scenario())
    assert pauses == [gaps.LOOK_S]
