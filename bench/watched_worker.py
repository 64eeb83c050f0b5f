"""The real worker, which also notes when its queries see a row: `faust -A bench.watched_worker`, BENCH_SIGHTINGS set.

A query of the worker reads the table's store, so a row is visible when the store's `write` has returned.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.headrace_worker import SIGHTINGS
from bench.store_notes import Notes
from headrace.worker import app
from tables.rocks_store import RocksStore
from tables.store import MemoryStore

__all__ = ["app"]

notes = Notes(Path(os.environ[SIGHTINGS]))
RocksStore.write = notes.beside(RocksStore.write)  # type: ignore[method-assign, assignment]
MemoryStore.write = notes.beside(MemoryStore.write)  # type: ignore[method-assign, assignment]
