"""Which messages a partition has carried already, so that a repeat in the topic never reaches a client. Pure.

A worker that restarts sends some derived messages again, with the same id. The memory keeps the *first* offset of
each id: a reader of history (`gateway.recall`) can then tell the original from its repeat, which a set of ids could
not.
"""

from __future__ import annotations

from collections import OrderedDict


class Seen:
    """The last `limit` message ids of one partition, least recently seen out first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._first: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._first)

    def is_repeat(self, tenant: str, push_id: str, offset: int) -> bool:
        """Note the id at `offset`; true when an earlier record carried it. Ids are unique within a tenant only."""
        key = _key(tenant, push_id)
        first = self._first.setdefault(key, offset)
        self._first.move_to_end(key)
        if len(self._first) > self._limit:
            self._first.popitem(last=False)
        return first != offset

    def first_offset(self, tenant: str, push_id: str) -> int | None:
        """Where the id was seen first, None when it is not remembered."""
        return self._first.get(_key(tenant, push_id))


def _key(tenant: str, push_id: str) -> str:
    return f"{tenant}\x1f{push_id}"
