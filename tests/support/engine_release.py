"""A real worker that writes tool_latency rows as another release would: `python -m tests.support.engine_release WHICH`.

- newer  a minor release ahead: each row has one more field behind those of today
- older  the first release: rows that it makes have only the fields that every release has; a row that it changes keeps
         the fields behind those as they are, as every release does
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tests.support.engine_child import put
from tests.support.engine_truth import KIND

FIELD = "of a newer release"
# Format, position, announced; calls, errors, sum, highest, histogram.
FIRST_RELEASE_FIELDS = 8


def newer(fields: list[Any]) -> list[Any]:
    # A short row is one of the first release that is being recovered, not yet one of ours.
    return fields if FIELD in fields or len(fields) == FIRST_RELEASE_FIELDS else [*fields, FIELD]


def older(fields: list[Any]) -> list[Any]:
    return fields if FIELD in fields else fields[:FIRST_RELEASE_FIELDS]


RELEASES: dict[str, Callable[[list[Any]], list[Any]]] = {"newer": newer, "older": older}


def as_written(release: Callable[[list[Any]], list[Any]], rows: Iterable[tuple[bytes, bytes | None]]) -> list[Any]:
    """Rows as the release writes them."""
    return [
        (key, value)
        if value is None or msgspec.msgpack.decode(key)[0] != KIND
        else (key, msgspec.msgpack.encode(release(msgspec.msgpack.decode(value))))
        for key, value in rows
    ]


def main() -> None:
    from streams.kafka_outlet import Outlet
    from tables.rocks_store import RocksStore
    from tables.store import MemoryStore

    release = RELEASES[sys.argv[1]]

    def sending(send_rows: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, topic, partition, rows: send_rows(self, topic, partition, as_written(release, rows))

    def writing(write: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, partition, rows, *more: write(self, partition, as_written(release, rows), *more)

    put(Outlet, "send_rows", sending)
    for store in (MemoryStore, RocksStore):
        put(store, "write", writing)
    from faust.cli.faust import cli

    sys.argv = ["faust", "-A", "headrace.worker", "worker", "-l", "info"]
    cli()


if __name__ == "__main__":
    main()
