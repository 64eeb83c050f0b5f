"""Current values: messages of which only the newest counts (a running window, the lag), by tenant and key. Pure.

They carry no SSE id, so they neither move a client's place in the log nor push log entries out of the ring. A new
client gets the current values at once; a client that was too slow for some gets the newest when it can take it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple


class Value(NamedTuple):
    """The newest message under one key. `number` counts all values of all tenants in order of arrival."""

    number: int
    channel: str
    chunk: bytes
    at_s: float


class Latest:
    """The newest value per (tenant, key); at most `keys` of them per tenant, the least recently changed out first."""

    def __init__(self, *, keys: int, age_s: float) -> None:
        self.number = 0
        self._keys = keys
        self._age_s = age_s
        self._values: dict[str, OrderedDict[str, Value]] = {}

    def put(self, tenant: str, key: str, channel: str, chunk: bytes, at_s: float) -> None:
        """Replace the value under (tenant, key); `at_s` is its wall time in seconds."""
        self.number += 1
        values = self._values.setdefault(tenant, OrderedDict())
        values[key] = Value(self.number, channel, chunk, at_s)
        values.move_to_end(key)
        if len(values) > self._keys:
            values.popitem(last=False)

    def since(self, tenant: str, number: int, wanted: Callable[[str], bool]) -> list[bytes]:
        """Chunks of the tenant's values that changed after `number`, oldest change first."""
        found: list[bytes] = []
        for value in reversed(self._values.get(tenant, OrderedDict()).values()):
            if value.number <= number:
                break
            if wanted(value.channel):
                found.append(value.chunk)
        return found[::-1]

    def expire(self, now_s: float) -> None:
        """Forget values that nobody has renewed for the age limit, at wall time `now_s`."""
        for tenant in list(self._values):
            values = self._values[tenant]
            while values and next(iter(values.values())).at_s < now_s - self._age_s:
                values.popitem(last=False)
            if not values:
                del self._values[tenant]
