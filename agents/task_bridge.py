"""Events to existing Celery tasks: each event of a route runs its task at least once.

Where it stands: `agents.effect_agent` hands it records of one topic (and those that are tried again or given back);
`agents.celery_child` speaks Celery, in child processes. It is off without `tasks.broker_url`.

    event --> send --> the broker has it --------------------------------> Done      (tasks.result_url is empty)
                          |
                          +--> watched until it ended --> SUCCESS -------> Done
                                   |                      FAILURE, ... --> Dead: Celery's own retries are over
                                   +--> not within tasks.wait_s ---------> RetryLater: asked again, and sent again
                                                                           unless a worker says that it is at it

The task's id is the event's id, so that a repeat (a worker of ours was killed, a dead letter was requeued) finds the
result of the first run. What it cannot find it runs again: tasks have to bear that, as Celery's own documentation says
of every task with acks_late.
"""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from agents.adapter_request import aggregate_of
from agents.celery_child import UNREACHABLE, Broker, Message, State, connect, send
from agents.effect import Dead, Done, Reason, RetryLater
from agents.effect_agent import attach
from agents.records import source_of
from agents.task_watch import TaskWatch
from contracts import envelope
from contracts.call_errors import CallRefused
from contracts.codec import tenant_of
from contracts.endpoint_errors import EndpointUnreachable
from contracts.errors import ContractError, HeadraceError, Kind, SettingsError
from contracts.names import Consumer, Topic
from contracts.outbox import decode_record
from reliability.fault import OUR_FAULT, UNREACHED, Fault, by_type
from reliability.pools.cpu import CpuPool
from reliability.pools.errors import PoolClosed, PoolFull, PoolUnready, TaskTimedOut
from reliability.pools.io import IoPool
from runtime.settings_pools import IoPoolSettings

if TYPE_CHECKING:
    from agents.effect import Outcome, Try
    from agents.host import AgentHost
    from contracts.names import Mode
    from reliability import call as calls
    from reliability.pools.metrics import PoolMetrics
    from reliability.registry import Reliability
    from reliability.stack import Stack
    from runtime.clock import Clock
    from runtime.settings_adapter import TaskSettings
    from streams.record_chunk import SourceRecord

# Its name as a dependency: in the settings, in metrics, at /v1/reliability.
DEPENDENCY = "tasks"


def register(host: AgentHost, reliability: Reliability, metrics: PoolMetrics) -> None:
    """Attach the agent, unless there is no broker to tell.

    Raises:
        SettingsError: Celery is not installed.
    """
    settings, clock = host.settings.tasks, host.sinks.clock
    if not settings.broker_url.get_secret_value():
        return
    if find_spec("celery") is None:
        raise SettingsError("tasks.broker_url is set, but Celery is not installed: pip install 'headrace[celery]'")
    stack = reliability.dependency(DEPENDENCY, classify).stack
    effect = TasksByEvent(settings, host.settings.contracts.mode, stack, metrics, clock)
    describe = "Events to the Celery tasks of tasks.routes."
    attach(host, Consumer.TASKS, Topic(settings.topic), effect, settings.retries, describe=describe)
    host.at_close(effect.close)


class TasksByEvent:
    """The effect (`agents.effect.Effect`) of this agent; one for all partitions of a worker."""

    def __init__(self, settings: TaskSettings, mode: Mode, stack: Stack, metrics: PoolMetrics, clock: Clock) -> None:
        self._settings, self._mode, self._stack = settings, mode, stack
        self._broker = Broker(
            settings.broker_url.get_secret_value(), settings.result_url.get_secret_value(), settings.broker_timeout_s
        )
        self._metrics, self._clock = metrics, clock
        # As many sends at once as children: a wait for one of them is nothing that the broker took.
        turns = IoPoolSettings(slots=settings.pool.children, queue=settings.pool.queue, wait_s=settings.pool.wait_s)
        self._turns = IoPool(f"{DEPENDENCY}-turns", turns, metrics, clock)
        self._started: asyncio.Task[_Children] | None = None

    def aggregate(self, record: SourceRecord) -> str:
        """What the topic is keyed by: its tasks run one after the other, as its events were committed."""
        return aggregate_of(record)

    async def run(self, record: SourceRecord, which: Try) -> Outcome:
        """Run the event's task. Bounded by the stack's deadline and `tasks.wait_s`."""
        del which  # the id is the same for all of them
        try:
            message = self._message(record)
        except ContractError as error:
            return Dead(Reason.of(error))
        if message is None:
            return Done()
        try:
            return await self._carried_out(message, await self._children())
        except HeadraceError as error:
            return outcome_of(error)

    async def close(self) -> None:
        """Let sends under way end, stop watching, and end the children."""
        await self._turns.stop()
        if self._started is None:
            return
        self._started.cancel()  # if it still waits for the children, it ends them
        await asyncio.gather(self._started, return_exceptions=True)
        if not _has_failed(self._started):
            children = self._started.result()
            await children.watch.stop()
            await children.pool.stop()

    async def _carried_out(self, message: Message, children: _Children) -> Outcome:
        call = partial(self._stack.call, partial(self._send, message, children.pool), idempotent=True)
        state: State = await self._turns.run(call, name="send")
        if not self._broker.results:
            return Done()
        if not state.is_done:
            state = await children.watch.outcome(message.task_id, self._settings.wait_s)
        if not state.has_ended:
            return self._unfinished(message, state)
        return Done() if state.is_done else Dead(_failure(message, state))

    def _unfinished(self, message: Message, state: State) -> RetryLater:
        text = (
            f"task {message.task} [{message.task_id}] has not ended within {self._settings.wait_s:g} s (tasks.wait_s); "
            f"the last that was heard of it: {state.name} {state.text}".rstrip()
        )
        return RetryLater(Reason("TaskUnfinished", text), spends=not (state.is_alive or state.name == UNREACHABLE))

    async def _send(self, message: Message, pool: CpuPool, _try: calls.Try) -> State:
        state = await pool.run(partial(send, self._broker, message), name="send")
        if state.name == UNREACHABLE:
            raise EndpointUnreachable("Celery", f"did not take a task: {state.error_class}: {state.text}")
        return state

    def _message(self, record: SourceRecord) -> Message | None:
        """The task of an event; None when its type has no route.

        Raises:
            ContractError: the record is no event.
        """
        payload = record.value or b""
        headers = envelope.from_headers(record.headers)
        event = decode_record(payload, headers, self._mode).event
        task = self._settings.routes.get(event.EVENT)
        if task is None:
            return None
        # A record of a foreign producer has no id: its place in the log names it.
        event_id = headers.dedupe_id or f"kf-{source_of(record)}"
        told = {"headrace_event_id": event_id, "headrace_tenant": tenant_of(event), "traceparent": headers.traceparent}
        named = {name: value for name, value in told.items() if value}
        return Message(task, event_id, payload, self._settings.queue, named)

    async def _children(self) -> _Children:
        """The children, started with the first event that needs them.

        Raises:
            PoolUnready: they cannot be; to all that wait for this start. The next event tries again.
        """
        if self._started is None or _has_failed(self._started):
            self._started = asyncio.create_task(self._start(), name=f"{DEPENDENCY}-start")
        return await asyncio.shield(self._started)  # a caller that leaves takes it from nobody

    async def _start(self) -> _Children:
        warm, settings = partial(connect, self._broker), self._settings.pool
        pool = CpuPool(DEPENDENCY, settings, self._metrics, self._clock, preload=["celery"], warm=warm)
        await pool.__aenter__()
        return _Children(pool, TaskWatch(pool, self._broker, self._settings.poll_s))


class _Children(NamedTuple):
    pool: CpuPool
    watch: TaskWatch


def _has_failed(start: asyncio.Task[_Children]) -> bool:
    return start.done() and (start.cancelled() or start.exception() is not None)


def classify(error: Exception) -> Fault:
    """What a failed call says to breaker and retry."""
    if isinstance(error, EndpointUnreachable):
        return UNREACHED
    return OUR_FAULT if _never_begun(error) else by_type(error)


def outcome_of(error: HeadraceError) -> Outcome:
    """What becomes of the event when its task could not be sent."""
    if error.kind is not Kind.TRANSIENT:
        return Dead(Reason.of(error))
    unsent = isinstance(error, CallRefused | EndpointUnreachable) or _never_begun(error)
    return RetryLater(Reason.of(error), getattr(error, "retry_after_s", None), spends=not unsent)


def _never_begun(error: Exception) -> bool:
    """Whether our own pool did not even try."""
    if isinstance(error, TaskTimedOut | PoolClosed):
        return not error.begun
    return isinstance(error, PoolFull | PoolUnready)


def _failure(message: Message, state: State) -> Reason:
    text = f"task {message.task} [{message.task_id}] is {state.name}: {state.error_class}: {state.text}"
    return Reason(state.error_class or state.name, f"{text}\n{state.traceback}".rstrip())
