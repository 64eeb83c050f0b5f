"""An existing Celery application, as the bridge meets it: `python -m celery -A tests.support.celery_tasks worker`.

What its tasks were given goes into a Redis list, which the tests read.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import redis
from celery import Celery

URL = os.environ["CELERY_TEST_URL"]
LIST = os.environ["CELERY_TEST_PREFIX"]

app = Celery("shop", broker=URL, backend=URL)
app.conf.update(
    task_default_queue=LIST,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_track_started=True,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
)


# Celery's decorator has no types.
task: Callable[..., Callable[[Callable[..., object]], Any]] = app.task


def note(what: str, event: dict[str, Any]) -> int:
    """Remember an execution; answers how many there were of this kind for this order."""
    client = redis.Redis.from_url(URL)
    client.rpush(LIST + ":notes", f"{what} {event['order_id']}")
    times: int = client.incr(f"{LIST}:{what}:{event['order_id']}")
    client.close()
    return times


@task(name="shop.changed")
def changed(event: dict[str, Any]) -> str:
    note("changed", event)
    return str(event["status"])


@task(name="shop.told")
def told(event: dict[str, Any]) -> None:
    """Remember the status too; orders whose number ends with a 3 fail."""
    client = redis.Redis.from_url(URL)
    client.rpush(LIST + ":notes", f"told {event['order_id']} {event['status']}")
    client.close()
    if event["order_id"].endswith("3"):
        raise ValueError("no such article")


@task(name="shop.silent", ignore_result=True)
def silent(event: dict[str, Any]) -> None:
    note("silent", event)


@task(name="shop.fails")
def fails(event: dict[str, Any]) -> None:
    note("fails", event)
    raise ValueError("no such article")


@task(name="shop.fails_once", bind=True, max_retries=3)
def fails_once(self: Any, event: dict[str, Any]) -> None:  # noqa: ANN401
    if note("fails_once", event) == 1:
        raise self.retry(countdown=0.1)


@task(name="shop.slow", bind=True)
def slow(self: Any, event: dict[str, Any]) -> None:  # noqa: ANN401
    """Tell of its progress in a word of its own."""
    note("slow", event)
    self.update_state(state="HALF_WAY")
    time.sleep(1)


@task(name="shop.dies_once")
def dies_once(event: dict[str, Any]) -> None:
    """Take its process along, the first time."""
    if note("dies_once", event) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
