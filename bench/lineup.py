"""Who is measured, on how much of the workload, and what of it survives a crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Contender:
    """One line of the table."""

    name: str
    environment: str
    """"project", or the name of bench/requirements-<name>.txt."""
    script: str
    """File in bench/contenders; "" for Headrace itself, whose real worker is started."""
    most_events: int | None
    """The part of the workload that takes it ten seconds or more on a slow core; None: all of it."""
    durable: str
    """What a crash leaves of its state."""
    keeps: Literal["reads", "counts", "counts, errors", "all"] = "all"
    """What its rows hold; all: count, errors and a p95."""
    grouped: bool = True
    """Whether it reads in a consumer group: its clock then starts when the group has its partitions."""
    workers: int = 1
    """Processes; only Headrace is ever measured with more than one."""


HEADRACE = "headrace-"

LINEUP = (
    Contender("aiokafka-read", "project", "aiokafka_read.py", None, "-", keeps="reads"),
    Contender("decode-only", "project", "decode_only.py", None, "-", keeps="reads"),
    Contender(HEADRACE + "memory", "project", "", None, "exact rows, changelog"),
    Contender(HEADRACE + "rocksdb", "project", "", None, "exact rows, changelog, RocksDB"),
    Contender("faust-table", "project", "faust_table.py", 60_000, "changelog, counts repeat", keeps="counts"),
    Contender("faust-plain", "project", "faust_plain.py", 150_000, "-", keeps="counts, errors"),
    Contender("quixstreams", "quixstreams", "quix_rows.py", 400_000, "changelog, RocksDB"),
    Contender("bytewax", "bytewax", "bytewax_rows.py", 1_000_000, "-", grouped=False),
    Contender("pathway", "pathway", "pathway_rows.py", 2_000_000, "-"),
    Contender("numpy", "project", "numpy_rows.py", None, "-"),
    Contender("polars", "polars", "polars_rows.py", None, "-"),
)
PEERS = ("quixstreams", "bytewax", "pathway")


def chosen(names: str) -> list[Contender]:
    """The contenders of a comma-separated list, in the table's order; "" is all of them.

    Raises:
        SystemExit: an unknown name.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    unknown = wanted - {contender.name for contender in LINEUP}
    if unknown:
        raise SystemExit(f"bench: no contender {', '.join(sorted(unknown))}; there are: {', '.join(_all_names())}")
    return [contender for contender in LINEUP if not wanted or contender.name in wanted]


def _all_names() -> list[str]:
    return [contender.name for contender in LINEUP]
