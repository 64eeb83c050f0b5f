"""A worker's consumer sends heartbeats while its listener is at work, and none when that failed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import aiokafka
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.transport.drivers import aiokafka as driver

from streams.batch_thread import BatchThread
from tests.support.aio import run
from tests.support.seams import fingerprint

# As they were read when our side was written; see test_batches.py.
SEAMS = {
    "_do_rejoin_group": "3cb016c98a08",
    "_heartbeat_routine": "61d010289522",
    "_on_join_complete": "0b0b3d204b40",
    "_start_heartbeat_task": "358d0cfad997",
    "_stop_heartbeat_task": "b3022a920670",
    "ensure_active_group": "33c84c1a9301",
}


@pytest.mark.parametrize("name", SEAMS)
def test_aiokafka_is_at_this_seam_what_our_side_was_written_for(name: str):
    assert fingerprint(getattr(GroupCoordinator, name)) == SEAMS[name], (
        f"aiokafka {aiokafka.__version__} changed {name}: read it, then mend streams/join_heartbeat.py"
    )


class Coordinator:
    """What happens to a coordinator, in order."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.happened: list[str] = []
        self._failure = failure

    def _start_heartbeat_task(self) -> None:
        self.happened.append("heartbeats")

    async def _stop_heartbeat_task(self) -> None:
        self.happened.append("no more heartbeats")

    async def _on_join_complete(self, *assignment: object) -> None:
        self.happened.append(f"listener {assignment}")
        if self._failure is not None:
            raise self._failure


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch):
    """Start a worker's consumer thread over a coordinator, as far as its own part goes."""

    def start(coordinator: Coordinator) -> None:
        async def connected(thread: BatchThread) -> None:
            thread._consumer = SimpleNamespace(_coordinator=coordinator)

        monkeypatch.setattr(driver.AIOKafkaConsumerThread, "on_start", connected)
        run(BatchThread.__new__(BatchThread).on_start())

    return start


def test_heartbeats_begin_before_the_listener(started: Callable[[Coordinator], None]):
    coordinator = Coordinator()
    started(coordinator)
    run(coordinator._on_join_complete(7, "member"))
    assert coordinator.happened == ["heartbeats", "listener (7, 'member')"]


def test_who_cannot_take_its_partitions_up_is_missed_by_the_group(started: Callable[[Coordinator], None]):
    coordinator = Coordinator(AssertionError("topics that nobody subscribed to"))
    started(coordinator)
    with pytest.raises(AssertionError):
        run(coordinator._on_join_complete())
    assert coordinator.happened == ["heartbeats", "listener ()", "no more heartbeats"]
