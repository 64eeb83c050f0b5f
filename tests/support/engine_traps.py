"""A real worker with one of Faust's or the broker's traps set: `python -m tests.support.engine_traps TRAP`.

- lose          one chunk disappears between the consumer and its agent, as a queue that was cleared loses it
- silence       from some chunk on nothing reaches the agent any more
- slow-seek     after a recovery, seconds pass between "sources resumed" and "queues cleared": issue 596 of Faust
- ungated-seek  the same, in a consumer that reads its sources meanwhile, as Faust's own does
- endless-seek  a recovery does not come to its end
- overtaken     a recovery ends after the next rebalance has begun, and before that one has brought partitions
- believed-end  the same, and Faust's word is taken that the rebalance is over then
- late-acks     acknowledgements come late and out of order
- quiet         `-l warn`; says what level the root logger has, as Faust leaves it and when the worker reads
"""

# ruff: noqa: ANN401 - it wraps functions of the product, whatever they take and give
from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Callable
from typing import Any

from tests.support.engine_child import put

SEEK_S = 3.0
LATEST_ACK_S = 0.5
LOST_CHUNK = 3


def losing(*, later: bool) -> None:
    """Drop a chunk; with `later` all that follow as well."""
    from agents import host

    passed = iter(range(1_000_000))

    def wrap(chunks: Callable[..., Any]) -> Callable[..., Any]:
        async def some(self: Any, stream: Any, *, is_back: bool) -> Any:
            async for chunk in chunks(self, stream, is_back=is_back):
                number = next(passed) if chunk.records.topic.endswith(".tools") else -1
                if number < LOST_CHUNK or (number > LOST_CHUNK and not later):
                    yield chunk

        return some

    put(host.AgentHost, "_chunks", wrap)


def slow_seek() -> None:
    from streams import batches

    def wrap(seek: Callable[..., Any]) -> Callable[..., Any]:
        async def slow(self: Any) -> None:
            await seek(self)
            await asyncio.sleep(SEEK_S)

        return slow

    put(batches.BatchConsumer, "perform_seek", wrap)


def ungated_seek() -> None:
    from streams import batches

    slow_seek()
    del batches.BatchConsumer._getmany
    put(batches.BatchConsumer, "_without_sources", lambda _ours: lambda _consumer, records: records)


def endless_seek() -> None:
    global SEEK_S  # noqa: PLW0603 - one trap a process
    SEEK_S = 1000.0
    slow_seek()


def overtaken() -> None:
    from streams import batches

    def wrap(seek: Callable[..., Any]) -> Callable[..., Any]:
        async def until_the_next(self: Any) -> None:
            await seek(self)
            while self.app.rebalancing_count == 1:  # noqa: ASYNC110 - Faust sets no event
                await asyncio.sleep(0.01)

        return until_the_next

    put(batches.BatchConsumer, "perform_seek", wrap)


def believed_end() -> None:
    from headrace.worker_app import HeadraceApp

    overtaken()
    del HeadraceApp.on_rebalance_end


def late_acks() -> None:
    from agents import host

    draws, held = random.Random(1), set()

    def wrap(acknowledger: Callable[..., Any]) -> Callable[..., Any]:
        def late(*args: Any) -> Callable[[], Any]:
            acknowledge = acknowledger(*args)

            async def later() -> None:
                await asyncio.sleep(draws.uniform(0, LATEST_ACK_S))
                await acknowledge()

            async def started() -> None:
                task = asyncio.create_task(later())
                held.add(task)
                task.add_done_callback(held.discard)

            return started

        return late

    put(host.AgentHost, "_acknowledger", wrap)


def quiet() -> None:
    from headrace import worker_app
    from runtime.health import Health

    def said(what: str) -> None:
        print(f"root logger {what}: {logging.getLogger().level}", file=sys.__stderr__, flush=True)

    def configuring(configure: Callable[..., None]) -> Callable[..., None]:
        def told(*args: Any, **named: Any) -> None:
            said("before")
            configure(*args, **named)

        return told

    def setting(set_ready: Callable[..., None]) -> Callable[..., None]:
        def told(self: Any, name: str, *, ok: bool, detail: str = "") -> None:
            set_ready(self, name, ok=ok, detail=detail)
            said(f"when ready is {ok}")

        return told

    put(worker_app, "configure", configuring)
    put(Health, "set_ready", setting)


TRAPS: dict[str, Callable[[], None]] = {
    "lose": lambda: losing(later=False),
    "silence": lambda: losing(later=True),
    "slow-seek": slow_seek,
    "ungated-seek": ungated_seek,
    "endless-seek": endless_seek,
    "overtaken": overtaken,
    "believed-end": believed_end,
    "late-acks": late_acks,
    "quiet": quiet,
}


def main() -> None:
    trap = sys.argv[1]
    TRAPS[trap]()
    from faust.cli.faust import cli

    sys.argv = ["faust", "-A", "headrace.worker", "worker", "-l", "warn" if trap == "quiet" else "info"]
    cli()


if __name__ == "__main__":
    main()
