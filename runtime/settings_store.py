"""Settings of the stores that tables keep their rows in."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runtime.settings_group import Group


class StoreSettings(Group):
    """Where a worker keeps table rows; the changelog in Kafka has them too, and is the truth."""

    kind: Literal["rocksdb", "memory"] = Field(
        default="rocksdb",
        description="`rocksdb`: on disk under worker.data_dir; a restart reads only what the changelog got meanwhile. "
        "`memory`: faster by a little, bounded by RAM alone; a restart reads the whole changelog.",
    )
    cache_bytes: int = Field(
        default=134_217_728,
        ge=16_777_216,
        le=1_099_511_627_776,
        description="Memory of `rocksdb` for all tables and partitions of a worker: blocks that were read, indexes and "
        "filters, and rows not yet in files (a third of it at most).",
    )
    standby_replicas: int = Field(
        default=1,
        ge=0,
        le=10,
        description="How many other workers keep a copy of each partition's rows, to take over without a replay. "
        "Each costs its worker the writing of those rows. 0 switches it off; with one worker there is none.",
    )
