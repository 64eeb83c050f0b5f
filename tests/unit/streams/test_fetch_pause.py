from __future__ import annotations

import asyncio

from aiokafka.consumer.fetcher import Fetcher

from streams import fetch_pause
from tests.support.aio import run

PAUSE_S = 0.05


class Fetching:
    """What of aiokafka's fetcher is the seam."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def _proc_fetch_request(self, assignment: object, node_id: object, request: str) -> bool:
        del assignment, node_id
        self.notes.append(request)
        return True


def test_the_next_request_leaves_a_pause_after_the_answer_and_the_first_one_at_once():
    async def scenario() -> None:
        fetcher = Fetching()
        fetch_pause.put_into(fetcher, PAUSE_S)
        fetch_pause.put_into(fetcher, PAUSE_S)
        loop = asyncio.get_running_loop()
        assert await fetcher._proc_fetch_request(None, 0, "first")
        answered_s = loop.time()
        assert await fetcher._proc_fetch_request(None, 0, "second")
        assert loop.time() - answered_s > PAUSE_S / 2
        assert fetcher.notes == ["first", "second"]

    run(scenario())


def test_a_pause_of_none_leaves_the_fetcher_alone():
    fetcher = Fetching()
    fetch_pause.put_into(fetcher, 0)
    assert not vars(fetcher).keys() - {"notes"}


def test_a_fetch_that_is_cancelled_in_its_pause_says_that_it_brought_nothing():
    async def scenario() -> None:
        fetcher = Fetching()
        fetch_pause.put_into(fetcher, 10)
        await fetcher._proc_fetch_request(None, 0, "first")
        waiting = asyncio.create_task(fetcher._proc_fetch_request(None, 0, "second"))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await waiting is False
        assert fetcher.notes == ["first"]

    run(scenario())


def test_aiokafka_still_sends_its_fetches_through_the_seam():
    assert "_proc_fetch_request" in Fetcher._fetch_requests_routine.__code__.co_names + tuple(
        name
        for constant in Fetcher._fetch_requests_routine.__code__.co_consts
        if hasattr(constant, "co_names")
        for name in constant.co_names
    )
    assert Fetcher._proc_fetch_request.__code__.co_varnames[:4] == ("self", "assignment", "node_id", "request")
