"""What all our Kafka clients have in common: how to connect, what a failure is called, how patient a question is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from contracts.errors import ServerMissing

if TYPE_CHECKING:
    from runtime.settings import KafkaSettings

Result = TypeVar("Result")

# A record may carry a payload of 1 MiB plus its headers; topics are created with the same limit.
MAX_RECORD_BYTES = 2 * 1024 * 1024
# The same when it is set aside, with one more header: whom it came too late for.
MAX_ASIDE_BYTES = MAX_RECORD_BYTES + 65_536

_REMEDY = "start it, or set HEADRACE_KAFKA__BOOTSTRAP to one that runs"
_INTERRUPT_S = 3.0
# Apache Kafka elects a new topic's leaders, and a group's coordinator, within a second or two.
_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0)


class NotReady(ServerMissing):
    """The cluster answers, but not to this yet: leaders and coordinators are being elected or have moved."""


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments that every aiokafka client of ours is made with."""
    return {
        "bootstrap_servers": settings.bootstrap,
        "client_id": "headrace",
        "request_timeout_ms": int(settings.send_timeout_s * 1000),
    }


def kafka_down(settings: KafkaSettings, reason: object) -> ServerMissing:
    """The transient error for a cluster that does not answer or refuses."""
    return ServerMissing("Kafka", settings.bootstrap, str(reason) or type(reason).__name__, _REMEDY)


def not_ready(settings: KafkaSettings, reason: str) -> NotReady:
    """The transient error for what the cluster will most likely answer in a moment."""
    return NotReady("Kafka", settings.bootstrap, reason, _REMEDY)


async def patiently(question: Callable[[], Awaitable[Result]]) -> Result:
    """What `question` answers; it is asked again for up to five seconds while it raises NotReady."""
    for pause_s in _PAUSES_S:
        try:
            return await question()
        except NotReady:
            await asyncio.sleep(pause_s)
    return await question()


async def close(client: Any, *, again_s: float = 1.0) -> None:  # noqa: ANN401 - aiokafka has no types
    """Close an aiokafka client.

    Its `close` cancels its metadata task and waits for that. A cancellation that comes in the moment of an answer is
    lost, and the task then sleeps for minutes: so it is repeated every `again_s`.
    """
    closing = asyncio.ensure_future(client.close())
    try:
        while not closing.done():
            await asyncio.wait({closing}, timeout=again_s)
            task = client._sync_task  # noqa: SLF001 - nothing else reaches it
            if not closing.done() and task is not None:
                task.cancel()
    finally:
        closing.cancel()
    closing.result()


async def to_the_end(call: Coroutine[Any, Any, Result]) -> Result:
    """What `call` returns. A cancellation waits a little for its end: aiokafka leaves sockets open when interrupted."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_INTERRUPT_S)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
