"""Celery, as children of a pool use it: give a task to the broker, look up what became of tasks.

Where it stands: `agents.task_bridge` runs these functions through `reliability.pools.cpu`, so Celery is never imported
by the worker itself. That is on purpose: Celery's client blocks, and when its broker hangs it may do so for ever
(celery 4296, 6911, 4627, whatever the timeouts say). A child that hangs is killed, and nothing else waits for it.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# Our own name for a state: the broker or the results could not be asked.
UNREACHABLE = "UNREACHABLE"
SENT = "SENT"
_DONE = frozenset({"SUCCESS", "IGNORED"})
_FAILED = frozenset({"FAILURE", "REVOKED", "REJECTED"})
# Nobody has told of it; PENDING is what Celery says of every id that it does not know.
_UNHEARD = frozenset({"PENDING", SENT, UNREACHABLE})


class Broker(NamedTuple):
    """Where tasks go and where results are; `results` is empty where nobody waits for them."""

    url: str
    results: str
    timeout_s: float


class Message(NamedTuple):
    """One task to be run: its name and id, its only argument as JSON, "" for Celery's own choice of a queue."""

    task: str
    task_id: str
    event: bytes
    queue: str
    headers: Mapping[str, str]


class State(NamedTuple):
    """What is known of a task: Celery's name of the state (or ours), and of a failure class, text and traceback."""

    name: str
    error_class: str = ""
    text: str = ""
    traceback: str = ""

    @property
    def is_done(self) -> bool:
        """It ended well."""
        return self.name in _DONE

    @property
    def is_failed(self) -> bool:
        """It ended badly, after all of Celery's own retries."""
        return self.name in _FAILED

    @property
    def has_ended(self) -> bool:
        """It will not change any more."""
        return self.is_done or self.is_failed

    @property
    def is_alive(self) -> bool:
        """A worker is at it, or will be: one of Celery's own states, or one that the task made up."""
        return not (self.has_ended or self.name in _UNHEARD)


def connect(broker: Broker) -> None:
    """Import and configure what Celery needs for these URLs, so that no task waits for that. Opens no connection."""
    app = _app(broker)
    with app.connection_for_write() as connection:
        _ = connection.transport
    if broker.results:
        _ = app.backend


def send(broker: Broker, message: Message) -> State:
    """Give the task to the broker, unless its result says that it need not be.

    Answers SENT once the broker has it; else what was found: a task that is done, or that a worker is at, is not sent
    again. One that failed is run anew: somebody wants it tried again.
    """
    from celery.exceptions import OperationalError  # noqa: PLC0415 - in a child only, see above

    app = _app(broker)
    if broker.results:
        found = _state(app, message.task_id)
        if found.is_done or found.is_alive or found.name == UNREACHABLE:
            return found
        if found.is_failed and (trouble := _forgotten(app, message.task_id)) is not None:
            return trouble
    with app.connection_for_write() as connection:
        try:
            app.send_task(
                message.task,
                args=[json.loads(message.event)],
                task_id=message.task_id,
                queue=message.queue or None,
                # Also a task that ignores its result says what became of it: else it would be sent again and again.
                # As a header: with the argument, Celery subscribes to each result and reads nothing of what comes then.
                headers={**message.headers, "ignore_result": not broker.results},
                ignore_result=True,
                connection=connection,
                retry=False,
            )
        except (OperationalError, *connection.connection_errors, *connection.channel_errors, OSError) as error:
            return State(UNREACHABLE, type(error).__name__, str(error))
    return State(SENT)


def states(broker: Broker, ids: tuple[str, ...]) -> dict[str, State]:
    """What is known of these tasks. When one cannot be asked about, the rest are not: each would take as long."""
    app = _app(broker)
    found: dict[str, State] = {}
    for task_id in ids:
        found[task_id] = _state(app, task_id)
        if found[task_id].name == UNREACHABLE:
            return dict.fromkeys(ids, found[task_id]) | found
    return found


def _forgotten(app: Any, task_id: str) -> State | None:  # noqa: ANN401 - Celery has no types
    """Forget the result of an earlier run, so that nobody takes it for that of the next; None when that is done."""
    try:
        app.backend.forget(task_id)
    except Exception as error:  # noqa: BLE001 - as in _state
        return State(UNREACHABLE, type(error).__name__, str(error))
    return None


def _state(app: Any, task_id: str) -> State:  # noqa: ANN401 - Celery has no types
    try:
        meta = app.backend.get_task_meta(task_id, cache=False)
    except Exception as error:  # noqa: BLE001 - each kind of result store raises errors of its own client
        return State(UNREACHABLE, type(error).__name__, str(error))
    name = str(meta.get("status", "PENDING"))
    if name not in _FAILED:
        return State(name)
    result = meta.get("result")
    return State(name, type(result).__name__, str(result), str(meta.get("traceback") or ""))


@cache
def _app(broker: Broker) -> Any:  # noqa: ANN401 - Celery has no types
    import celery  # noqa: PLC0415 - in a child only, see above

    app = celery.Celery("headrace", broker=broker.url, backend=broker.results or None)
    within_s = broker.timeout_s
    app.conf.update(
        task_serializer="json",
        broker_connection_retry=False,
        broker_connection_retry_on_startup=False,
        broker_connection_timeout=within_s,
        broker_pool_limit=1,
        # Of an AMQP broker: a message counts when the broker has confirmed it. Of Redis: no wait without a bound.
        # Tries are the stack's affair: without max_retries, Celery's client would wait two seconds for the next one.
        broker_transport_options={"max_retries": 0}
        | (
            {"confirm_publish": True}
            if broker.url.startswith(("amqp", "pyamqp"))
            else {"socket_timeout": within_s, "socket_connect_timeout": within_s, "retry_on_timeout": False}
        ),
        task_publish_retry=False,
        redis_socket_timeout=within_s,
        redis_socket_connect_timeout=within_s,
        redis_retry_on_timeout=False,
        result_backend_transport_options={"retry_policy": {"max_retries": 0}},
    )
    return app
