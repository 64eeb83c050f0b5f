"""A control process that kills (or freezes) itself at one point of its requeuer's turn.

`python requeuer_child.py POINT`, settings from the environment. The points are outside the product: this script wraps
the requeuer's doors, its statements and its outlet to Kafka.

    numbered   letters have their numbers, committed
    frozen     letters were read to be sent; the process is stopped, and may be continued later
    sent       the broker has them; nobody has noted that
    noted      it is noted
    armed      rows of the outbox are armed again, and the transaction is open
    none       runs until it is killed
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from control import run as control
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import load
from streams import outbox_table, requeue_table
from streams.kafka_outlet import Outlet

POINT = sys.argv[1]


def reach(point: str) -> None:
    if point == POINT:
        os.kill(os.getpid(), signal.SIGSTOP if point == "frozen" else signal.SIGKILL)


def after(function: Callable[..., Any], point: str) -> Callable[..., Any]:
    async def wrapped(*args: Any, **named: Any) -> object:  # noqa: ANN401 - whatever it wraps
        result = await function(*args, **named)
        if result or result is None:
            reach(point)
        return result

    return wrapped


requeue_table.number = after(requeue_table.number, "numbered")
requeue_table.unsent_records = after(requeue_table.unsent_records, "frozen")
requeue_table.sent = after(requeue_table.sent, "noted")
outbox_table.rearm = after(outbox_table.rearm, "armed")
Outlet.send_all = after(Outlet.send_all, "sent")  # type: ignore[method-assign]  # the door to Kafka, with a fuse in it
asyncio.run(control.run(load(), asyncio.Event(), Metrics(), Health(), SystemClock()))
