"""Whether brokers would take a worker into its consumer group.

Where it stands: `headrace.worker_app` asks before Faust starts, and `headrace doctor` asks. A member that is refused
for such a reason logs one line and then waits for ever: aiokafka's task for the group has ended, nobody looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import errors

from contracts.errors import ServerMissing

if TYPE_CHECKING:
    from runtime.settings import Settings
    from streams.kafka_admin import Admin

LEAST, MOST = "group.min.session.timeout.ms", "group.max.session.timeout.ms"


async def objection(cluster: Admin, settings: Settings) -> str:
    """Why no broker takes this worker: names the setting, its value, the limit and what to do. Empty: all is well.

    A broker without idempotent producers is not asked: the embedded one has no limits, and would take the question for
    a member. Raises ServerMissing (transient) when the group's coordinator does not answer.
    """
    worker = settings.worker
    if not settings.kafka.idempotence:
        return ""
    error = await cluster.join_error(worker.group, worker.session_timeout_s)
    if error is errors.InvalidSessionTimeoutError:
        return _of_timeout(worker.session_timeout_s, await _broker_config(cluster))
    if error is errors.GroupAuthorizationFailedError:
        return (
            f"worker.group: the brokers keep this client from group {worker.group}: give its principal the right, "
            f"kafka-acls.sh --add --operation Read --group {worker.group}"
        )
    if error is errors.InconsistentGroupProtocolError:
        return f"worker.group: {worker.group} has members that are no workers of Headrace; name a group of its own"
    if error is errors.InvalidGroupIdError:
        return f"worker.group: the brokers do not take {worker.group!r} as the name of a group"
    return ""


async def _broker_config(cluster: Admin) -> dict[str, str]:
    try:
        return await cluster.broker_config()
    except ServerMissing:  # the limits are told if they can be; that there are some is known
        return {}


def _of_timeout(timeout_s: float, config: dict[str, str]) -> str:
    least, most = (f"{int(config[name]) / 1000:g} s" if name in config else "not told" for name in (LEAST, MOST))
    return (
        f"worker.session_timeout_s: is {timeout_s:g}, outside the brokers' limits "
        f"({LEAST} is {least}, {MOST} is {most}); "
        "set HEADRACE_WORKER__SESSION_TIMEOUT_S between them, or change the brokers' limits"
    )
