"""Retry topics are left out of most fetches, until records come over one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest

from streams import seldom_topics
from tests.support.aio import run

OFTEN, SELDOM = "orders", "retry.orders"


class Fetching:
    """What of aiokafka's fetcher is the seam; each node leads a partition of the topics that it is given."""

    def __init__(self, **nodes: tuple[str, ...]) -> None:
        self.nodes = nodes
        self._records: dict[TopicPartition, object] = {}

    def _get_actions_per_node(self, assignment: object) -> tuple[Any, ...]:
        del assignment
        requests = [
            (node, FetchRequest(20, 1, 1, 1, [(t, [(0, 7, 1)]) for t in ts])) for node, ts in self.nodes.items()
        ]
        return requests, defaultdict(list), 0.2, False, []


def asked(fetcher: Fetching) -> dict[str, list[str]]:
    """What the next requests name, by node."""
    requests, awaiting_reset, backoff, invalid_metadata, resumed = fetcher._get_actions_per_node(None)
    assert (awaiting_reset, backoff, invalid_metadata, resumed) == ({}, 0.2, False, [])
    return {node: [topic for topic, _partitions in request.topics] for node, request in requests}


def fetching(**nodes: tuple[str, ...]) -> Fetching:
    fetcher = Fetching(**nodes)
    seldom_topics.put_into(fetcher, {SELDOM})
    seldom_topics.put_into(fetcher, {SELDOM})
    return fetcher


def test_the_first_fetch_names_all_topics_and_those_that_follow_at_once_only_the_others():
    async def scenario() -> None:
        fetcher = fetching(a=(OFTEN, SELDOM))
        assert [asked(fetcher) for _ in range(3)] == [{"a": [OFTEN, SELDOM]}, {"a": [OFTEN]}, {"a": [OFTEN]}]

    run(scenario())


def test_they_are_asked_for_again_after_the_pause(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(seldom_topics, "PAUSE_S", 0.02)

    async def scenario() -> None:
        fetcher = fetching(a=(OFTEN, SELDOM))
        asked(fetcher)
        async with asyncio.timeout(10):
            while SELDOM not in asked(fetcher)["a"]:  # noqa: ASYNC110 - time has to pass
                await asyncio.sleep(0.001)

    run(scenario())


def test_where_a_record_came_the_next_fetch_asks_for_more():
    async def scenario() -> None:
        fetcher = fetching(a=(OFTEN, SELDOM))
        asked(fetcher)
        fetcher._records[TopicPartition(SELDOM, 1)] = object()
        assert asked(fetcher) == {"a": [OFTEN, SELDOM]}
        fetcher._records.clear()
        assert asked(fetcher) == {"a": [OFTEN, SELDOM]}

    run(scenario())


def test_a_broker_that_leads_only_such_topics_gets_no_empty_request_and_its_turn_like_the_others():
    async def scenario() -> None:
        fetcher = fetching(a=(OFTEN,))
        assert asked(fetcher) == {"a": [OFTEN]}
        fetcher.nodes["b"] = (SELDOM,)
        assert asked(fetcher) == {"a": [OFTEN], "b": [SELDOM]}
        assert asked(fetcher) == {"a": [OFTEN]}

    run(scenario())


def test_aiokafka_still_makes_its_requests_at_the_seam():
    assert "_get_actions_per_node" in Fetcher._fetch_requests_routine.__code__.co_names
    assert Fetcher._get_actions_per_node.__code__.co_varnames[:2] == ("self", "assignment")
    request = FetchRequest(20, 1, 1, 1, [("t", [])])
    request.topics[:] = []
    assert request.topics == []
