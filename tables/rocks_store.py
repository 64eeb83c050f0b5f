"""Rows on a local disk, in RocksDB. The only importer of rocksdict.

Layout: `<folder>/<incarnation of the changelog>/<partition>/`, one database a partition, so that a partition that goes
to another worker takes nothing along, and the folders of an incarnation that is over can simply be removed.

A flush is one write batch of rows and checkpoint, written to RocksDB's log without waiting for the disk (no fsync).
After kill -9 nothing is missing, since the operating system has it. After a power cut the newest batches may be: then
RocksDB opens as of some earlier batch, and since a checkpoint is in the same batch as its rows, it is the checkpoint of
exactly the rows that are there. Recovery reads the rest from the changelog, which had them before they came here.

What bounds memory: one block cache of `cache_bytes` for all tables and partitions. Index and filter blocks stand in it,
and what is not yet in files (memtables) is charged to it, at most a third of it; above that RocksDB writes files.
"""

from __future__ import annotations

import shutil
import threading
from itertools import islice
from typing import TYPE_CHECKING, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from contracts.errors import SettingsError
from runtime.logs import get_logger
from tables.store import FIRST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from runtime.clock import Clock
    from tables.store import Change

log = get_logger(__name__)

# Below FIRST_KEY: scans of rows never meet it.
CHECKPOINT_KEY = b"\x00checkpoint"
UNKNOWN_INCARNATION = "unknown"
# What a folder that is being removed is called; found at a start when a process ended in the midst of it.
LEAVING = ".leaving"
PAGE_ROWS = 1_000

# Bits of bloom filter for each key: 1 in 100 look-ups of a new window reads a block for nothing.
BLOOM_BITS = 10
# A partition's memtable becomes a file at this size. Hot rows are overwritten in it, so that most versions never reach
# a file; the limit over all partitions is the shared one.
MEMTABLE_BYTES = 16 * 1024 * 1024
FILE_BYTES = 16 * 1024 * 1024
MAX_OPEN_FILES = 64
# Expired windows are deleted in key order. A file in which half of a run of 1,000 keys are deletions is compacted soon,
# or scans would walk through them.
DELETION_RUN, DELETIONS_IN_RUN, DELETION_RATIO = 1_000, 500, 0.3


class RocksMemory:
    """The memory that all databases of a process share: at most about `cache_bytes`."""

    def __init__(self, cache_bytes: int) -> None:
        self.cache = Cache(cache_bytes)
        self._writes = WriteBufferManager.new_write_buffer_manager_with_cache(
            cache_bytes // 3, allow_stall=False, cache=self.cache
        )

    def options(self) -> Options:
        """How a partition's database is opened: small rows, hot overwrites, deletions from the oldest window on."""
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self.cache)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        blocks.set_bloom_filter(BLOOM_BITS, block_based=False)
        options = Options(raw_mode=True)
        options.create_if_missing(create_if_missing=True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self._writes)
        options.set_write_buffer_size(MEMTABLE_BYTES)
        options.set_target_file_size_base(FILE_BYTES)
        options.set_compaction_style(DBCompactionStyle.level())
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_compression_type(DBCompressionType.lz4())
        options.add_compact_on_deletion_collector_factory(DELETION_RUN, DELETIONS_IN_RUN, DELETION_RATIO)
        options.set_max_open_files(MAX_OPEN_FILES)
        options.set_skip_stats_update_on_db_open(True)
        options.set_stats_dump_period_sec(0)
        options.set_keep_log_file_num(1)
        return options


class RocksStore:
    """One table's rows.

    Args:
        folder: belongs to this process alone (the worker holds a lock on its data folder).
        memory: shared with the other tables.
        clock: tells how old files are.
        max_age_s: a partition that was not written for longer is taken from the changelog again when it is opened. The
            changelog forgets deletions after a while; rows older than that would outlive theirs.
    """

    def __init__(self, folder: Path, memory: RocksMemory, clock: Clock, max_age_s: float) -> None:
        self._folder = folder
        self._memory = memory
        self._clock = clock
        self._max_age_s = max_age_s
        self._incarnation = UNKNOWN_INCARNATION
        # None: taken up, and nothing was ever written. Files are made with the first write, which spares the tables
        # that a deployment does not use.
        self._open: dict[int, Rdict | None] = {}
        self._checkpoints: dict[int, int] = {}
        self._opening = threading.Lock()

    def begin(self, incarnation: str) -> None:
        """Keep rows of this incarnation of the changelog, remove the files of all others."""
        if incarnation != self._incarnation:
            self.close()
            self._incarnation = incarnation
        if self._folder.is_dir():
            for other in self._folder.iterdir():
                if other.name != incarnation:
                    log.info("removing rows of another incarnation of the changelog", folder=str(other))
                    shutil.rmtree(other)

    def open(self, partition: int) -> None:
        """Take up a partition's files; what cannot be read is removed, and comes again from the changelog.

        Raises:
            SettingsError: another process has the files open.
        """
        with self._opening:
            if partition not in self._open:
                path = self._path(partition)
                shutil.rmtree(path.with_suffix(LEAVING), ignore_errors=True)
                self._remove_if_old(path)
                self._open[partition] = self._database(partition) if path.is_dir() else None

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row's value, or None."""
        db = self._open.get(partition)
        return None if db is None else cast("bytes | None", db.get(key))

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many rows at once; half the cost of asking for each."""
        db = self._open.get(partition)
        if db is None or not keys:
            return [None] * len(keys)
        return cast("list[bytes | None]", db.get(list(keys)))

    def write(self, partition: int, changes: Iterable[Change], changelog_offset: int | None = None) -> None:
        """Apply all changes of one flush, in order, and move the checkpoint: one write batch.

        An error of the disk is raised as RocksDB says it; the worker then ends, and its successor recovers.
        """
        db = self._open.get(partition)
        if db is None:
            db = self._open[partition] = self._database(partition)
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if changelog_offset is not None and changelog_offset > self._checkpoints.get(partition, -1):
            batch.put(CHECKPOINT_KEY, changelog_offset.to_bytes(8, "big"))
            db.write(batch)
            self._checkpoints[partition] = changelog_offset
        else:
            db.write(batch)

    def scan(self, partition: int, lower: bytes, upper: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with keys in [lower, upper) in key order; ends early when the partition is released meanwhile."""
        page = self._page(partition, lower, upper)
        while page:
            yield from page
            page = self._page(partition, page[-1][0] + b"\0", upper) if len(page) == PAGE_ROWS else []

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """All rows of a partition."""
        return self.scan(partition, FIRST_KEY, None)

    def checkpoint(self, partition: int) -> int | None:
        """The changelog offset up to which (exclusive) the rows are complete."""
        return self._checkpoints.get(partition)

    def partitions(self) -> frozenset[int]:
        """Partitions that were taken up."""
        return frozenset(self._open)

    def release(self, partition: int) -> None:
        """Close the partition's files; they stay, and `open` takes them up."""
        self._checkpoints.pop(partition, None)
        db = self._open.pop(partition, None)
        if db is not None:
            db.close()

    def drop(self, partition: int) -> None:
        """Remove the partition's files.

        Raises OSError when they cannot be: they must not be taken up again.
        """
        self.release(partition)
        _remove(self._path(partition))

    def close(self) -> None:
        """Close all files."""
        for partition in list(self._open):
            self.release(partition)

    def _page(self, partition: int, lower: bytes, upper: bytes | None) -> list[tuple[bytes, bytes]]:
        """The next rows of a scan. No iterator of RocksDB outlives this: one would keep a closed database locked."""
        db = self._open.get(partition)
        if db is None:
            return []
        bounds = ReadOptions()
        if upper is not None:
            bounds.set_iterate_upper_bound(upper)
        return list(islice(cast("Iterator[tuple[bytes, bytes]]", db.items(from_key=lower, read_opt=bounds)), PAGE_ROWS))

    def _path(self, partition: int) -> Path:
        return self._folder / self._incarnation / str(partition)

    def _database(self, partition: int) -> Rdict:
        path = self._path(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = Rdict(str(path), self._memory.options())
        except Exception as error:
            # rocksdict raises bare Exceptions: RocksDB's sentence is all there is to tell them apart.
            if "/LOCK:" in str(error):
                raise SettingsError(
                    f"worker.data_dir: {path} is open in another process; give each worker its own data_dir ({error})"
                ) from error
            if not path.is_dir():
                raise  # the disk takes no files
            log.warning("rows cannot be read and are taken from the changelog", path=str(path), error=str(error))
            _remove(path)
            db = Rdict(str(path), self._memory.options())
        raw = cast("bytes | None", db.get(CHECKPOINT_KEY))
        if raw is not None:
            self._checkpoints[partition] = int.from_bytes(raw, "big")
        return db

    def _remove_if_old(self, path: Path) -> None:
        written_s = [file.stat().st_mtime for file in path.iterdir()] if path.is_dir() else []
        if written_s and self._clock.wall_s() - max(written_s) > self._max_age_s:
            log.info("rows are older than the changelog's deletions and are taken from it", path=str(path))
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a database, all of it or nothing: RocksDB opens one without its newest files as of some earlier time."""
    if path.is_dir():
        leaving = path.with_suffix(LEAVING)
        if leaving.is_dir():
            shutil.rmtree(leaving)
        path.rename(leaving)
        shutil.rmtree(leaving)
