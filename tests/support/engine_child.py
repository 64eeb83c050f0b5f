"""A real worker with a fuse in it: `python -m tests.support.engine_child WHAT POINT [COUNT]`.

Settings come from the environment. WHAT is `die` (SIGKILL), `freeze` (SIGSTOP; the parent may continue it), or `run`
(no fuse; POINT is then `none`). The fuse burns the COUNTth time that the worker passes POINT. Points stand between the
numbered steps of `agents.runner`, and lie outside the product: this script wraps the doors that the steps go through.

    folded        1. a chunk is in memory, nothing of it is durable
    buried        2. dead letters are in PostgreSQL
    have-rows     3. the changelog batch is made and has not left
    sending-rows  3. the changelog batch has left, its acknowledgement has not been seen
    rows-sent     3. the broker has the rows, the store has not
    rows-stored   4. the store has them
    rows-beside   4. the store has rows of a later flush, while derived messages are on their way
    sending       5. derived messages have left
    sent          5. the broker has them
    acknowledged  6. Faust may commit the chunk, and has not
    committed     6. the offset is committed
"""

# ruff: noqa: ANN401 - it wraps functions of the product, whatever they take and give
from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

POINTS = (
    "folded",
    "buried",
    "have-rows",
    "sending-rows",
    "rows-sent",
    "rows-stored",
    "rows-beside",
    "sending",
    "sent",
    "acknowledged",
    "committed",
)
# The steps of the agent whose table is checked; other agents send and commit as well.
AGENT = "tool_calls"
CHANNEL = b"tools:"
# The task in which its messages leave, and how long they take when rows are to be written beside them.
PUSH_TASK = "-push"
SLOW_PUSH_S = 0.3
# Turns of the event loop in which a request leaves the socket; its answer cannot be back yet.
LEAVING_TURNS = 3

Call = Callable[..., Awaitable[Any]]


class Fuse:
    """Counts how often the worker passed its point, from the first fold on: a recovery writes the store too."""

    def __init__(self, what: str, point: str, count: int) -> None:
        self._signal = {"die": signal.SIGKILL, "freeze": signal.SIGSTOP}.get(what)
        self._point = point
        self._left = count
        self._lit = False
        self.telling = False

    @property
    def is_beside(self) -> bool:
        return self._point == "rows-beside"

    def light(self) -> None:
        self._lit = True

    def reach(self, point: str) -> None:
        if self._lit and point == self._point and self._signal is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._signal)


def after(fuse: Fuse, point: str, call: Call) -> Call:
    async def wrapped(*args: Any, **named: Any) -> Any:
        result = await call(*args, **named)
        fuse.reach(point)
        return result

    return wrapped


def around(fuse: Fuse, before: str, leaving: str, done: str, counts: Callable[..., bool], call: Call) -> Call:
    async def wrapped(*args: Any, **named: Any) -> Any:
        if not counts(*args):
            return await call(*args, **named)
        fuse.reach(before)
        task = asyncio.ensure_future(call(*args, **named))
        for _ in range(LEAVING_TURNS):
            await asyncio.sleep(0)
        fuse.reach(leaving)
        result = await task
        fuse.reach(done)
        return result

    return wrapped


def slow(fuse: Fuse, call: Call) -> Call:
    """Messages of a flush take so long that rows are written beside them."""

    async def wrapped(*args: Any, **named: Any) -> Any:
        task = asyncio.current_task()
        if task is None or not task.get_name().startswith(AGENT) or not task.get_name().endswith(PUSH_TASK):
            return await call(*args, **named)
        fuse.telling = True
        try:
            await asyncio.sleep(SLOW_PUSH_S)
            return await call(*args, **named)
        finally:
            fuse.telling = False

    return wrapped


def tells_tools(_outlet: object, records: Any) -> bool:
    return any(value.startswith(CHANNEL) for record in records for name, value in record.headers if name == "ch")


def put(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    """Wrap a function of the product. One that is gone fails here: then this script has to follow the product."""
    setattr(owner, name, wrap(getattr(owner, name)))


def install(fuse: Fuse) -> None:
    """Put the fuse into the doors."""
    from agents import burial, host, owned_partition
    from streams import batch_thread, kafka_outlet
    from tables import rocks_store, store

    def folding(fold: Callable[..., None]) -> Callable[..., None]:
        def folded(self: Any, chunk: Any) -> None:
            fold(self, chunk)
            if self._agent == AGENT:
                fuse.light()
                fuse.reach("folded")

        return folded

    def writing(write: Callable[..., None]) -> Callable[..., None]:
        def written(*args: Any, **named: Any) -> None:
            write(*args, **named)
            fuse.reach("rows-stored")
            if fuse.telling:
                fuse.reach("rows-beside")

        return written

    put(owned_partition.OwnedPartition, "fold", folding)
    put(burial.Burial, "bury", partial(after, fuse, "buried"))
    put(
        kafka_outlet.Outlet,
        "send_rows",
        partial(around, fuse, "have-rows", "sending-rows", "rows-sent", lambda *_: True),
    )
    put(kafka_outlet.Outlet, "send_all", partial(around, fuse, "rows-done", "sending", "sent", tells_tools))
    if fuse.is_beside:
        put(kafka_outlet.Outlet, "send_all", partial(slow, fuse))
    put(store.MemoryStore, "write", writing)
    put(rocks_store.RocksStore, "write", writing)
    put(host.AgentHost, "_acknowledger", lambda made: lambda *args: after(fuse, "acknowledged", made(*args)))
    put(batch_thread.BatchThread, "commit", partial(after, fuse, "committed"))


def main() -> None:
    what, point, *count = sys.argv[1:]
    if what != "run":
        assert point in POINTS, f"{point} is none of {POINTS}"
        install(Fuse(what, point, int(count[0]) if count else 1))
    from faust.cli.faust import cli

    sys.argv = ["faust", "-A", "headrace.worker", "worker", "-l", "info"]
    cli()


if __name__ == "__main__":
    main()
