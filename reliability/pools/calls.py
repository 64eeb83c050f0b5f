"""A call on its way to a child, and its result on the way back. Pure."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

from reliability.pools.errors import TaskFailed, TaskRefused

if TYPE_CHECKING:
    from collections.abc import Callable

_REMEDY = "pass a function of a module, or functools.partial of one, with arguments that pickle"


def pickled(call: Callable[[], object], limit_bytes: int, pool: str, task: str) -> bytes:
    """The call as bytes, at most `limit_bytes`.

    Raises:
        TaskRefused: it is a lambda or a function of the main script, has arguments that do not pickle, or is too large.
    """
    inner: object = call
    while isinstance(inner, partial):
        inner = inner.func
    if getattr(inner, "__module__", "") == "__main__":
        raise TaskRefused(pool, task, f"a child has another __main__, and would not find {inner!r}; {_REMEDY}")
    try:
        payload = pickle.dumps(call, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - pickling runs the arguments' own code
        raise TaskRefused(pool, task, f"{type(error).__name__}: {error}; {_REMEDY}") from None
    if len(payload) > limit_bytes:
        why = f"pickled it has {len(payload)} bytes, pools.cpu.message_bytes allows {limit_bytes}"
        raise TaskRefused(pool, task, why)
    return payload


def unpickled(answer: bytes, pool: str, task: str) -> Any:  # noqa: ANN401 - whatever the function returned
    """The result that a child sent.

    Raises:
        TaskFailed: it does not come back from its pickle.
    """
    try:
        return pickle.loads(answer)  # noqa: S301 - from our own child
    except Exception as error:  # noqa: BLE001 - unpickling runs the result's own code
        text = f"its result cannot be read here: {error}"
        raise TaskFailed(pool, task, type(error).__name__, text, "") from None
