"""What every store of rows does; MemoryStore and RocksStore are held to the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from contracts.errors import SettingsError
from runtime.clock import ManualClock
from tables.rocks_store import RocksMemory, RocksStore
from tables.rows import WindowKey, encode_key, scan_bounds
from tables.sorted_keys import LOAD
from tables.store import Change, MemoryStore, RowStore

MIB = 1024 * 1024
CACHE_BYTES = 16 * MIB


DAY_S = 86_400.0


def rocks(folder: Path, now_s: float = 0.0) -> RocksStore:
    return RocksStore(
        folder, RocksMemory(CACHE_BYTES), ManualClock(datetime.fromtimestamp(now_s, UTC)), max_age_s=DAY_S
    )


@pytest.fixture(params=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RowStore]:
    made: RowStore = MemoryStore() if request.param == "memory" else rocks(tmp_path)
    made.begin("one")
    yield made
    made.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Callable[[], RocksStore]]:
    """Opens a store on the same folder anew, as a process does that starts again."""
    opened: list[RocksStore] = []

    def open_again() -> RocksStore:
        for store in opened:
            store.close()
        opened.append(rocks(tmp_path / "rows"))
        return opened[-1]

    yield open_again
    opened[-1].close()


def key(start_ms: int, tenant: str = "t", kind: str = "tl") -> bytes:
    return encode_key(kind, WindowKey(tenant, ("search",), start_ms))  # type: ignore[arg-type]


def test_what_was_written_last_is_read(store: RowStore):
    store.write(0, [(key(1), b"a"), (key(2), b"b")])
    store.write(0, [(key(1), b"c"), (key(2), None), (key(3), b"d"), (key(3), None), (key(4), None)])
    assert store.get(0, key(1)) == b"c"
    assert store.get_many(0, [key(2), key(1), key(3), key(4)]) == [None, b"c", None, None]
    assert list(store.items(0)) == [(key(1), b"c")]


def test_partitions_are_apart(store: RowStore):
    store.write(0, [(key(1), b"a")])
    store.write(1, [(key(1), b"b")])
    assert (store.get(0, key(1)), store.get(1, key(1)), store.get(2, key(1))) == (b"a", b"b", None)
    assert store.partitions() == {0, 1}
    store.drop(0)
    assert store.partitions() == {1}
    assert list(store.items(0)) == []


def test_a_scan_gives_the_windows_of_a_time_range_in_order(store: RowStore):
    starts = [*range(0, 3_000_000, 1000)]
    rows: list[Change] = [(key(start), b"%d" % start) for start in reversed(starts)]
    store.write(0, rows)
    store.write(0, [(key(5, kind="ab"), b"x"), (key(5, kind="zz"), b"x")])
    lower, upper = scan_bounds("tl", 1, 100_000, 2_900_000)
    assert [value for _, value in store.scan(0, lower, upper)] == [b"%d" % s for s in range(100_000, 2_900_000, 1000)]
    assert len(list(store.items(0))) == len(starts) + 2


def test_a_scan_goes_on_while_the_partition_is_written_and_meets_each_row_once(store: RowStore):
    count = 5 * LOAD
    store.write(0, [(key(start), b"old") for start in range(0, 2 * count, 2)])
    walk = store.items(0)
    met = [next(walk)[0] for _ in range(LOAD)]
    store.write(0, [(key(start), b"new") for start in range(1, 2 * count, 2)])
    store.write(0, [(key(0), None), (key(2 * count - 2), b"new")])
    met += [found for found, _ in walk]
    assert len(met) == len(set(met))
    assert met == sorted(met)
    assert {key(start) for start in range(0, 2 * count, 2)} <= set(met)


def test_a_partition_that_is_released_during_a_scan_can_be_opened_again(store: RowStore):
    store.write(0, [(key(start), b"v") for start in range(3_000)], 3_000)
    walk = store.items(0)
    next(walk)
    store.release(0)
    assert store.partitions() == frozenset()
    store.open(0)
    assert store.partitions() == {0}
    assert len(list(walk)) < 3_000 + 1


def test_the_checkpoint_moves_with_the_rows_and_never_back(store: RowStore):
    assert store.checkpoint(0) is None
    store.write(0, [(key(1), b"a")])
    assert store.checkpoint(0) is None
    store.write(0, [(key(1), b"b")], 7)
    store.write(0, [(key(1), b"c")])
    assert store.checkpoint(0) == 7
    store.write(0, [(key(1), b"d")], 5)
    assert store.checkpoint(0) == 7
    store.drop(0)
    assert store.checkpoint(0) is None


def test_the_checkpoint_is_no_row(store: RowStore):
    store.write(0, [(key(1), b"a")], 7)
    assert list(store.items(0)) == [(key(1), b"a")]


def test_rows_of_another_incarnation_of_the_changelog_are_forgotten(store: RowStore):
    store.write(0, [(key(1), b"a")], 7)
    store.begin("one")
    assert store.get(0, key(1)) == b"a"
    store.begin("two")
    store.open(0)
    assert (store.get(0, key(1)), store.checkpoint(0)) == (None, None)
    store.begin("one")
    store.open(0)
    assert (store.get(0, key(1)), store.checkpoint(0)) == (None, None)


def test_rows_and_checkpoint_are_there_after_a_restart(on_disk: Callable[[], RocksStore]):
    store = on_disk()
    store.begin("one")
    store.write(3, [(key(1), b"a"), (key(2), b"b")], 9)
    store.write(3, [(key(2), None)], 10)
    store = on_disk()
    store.begin("one")
    assert store.partitions() == frozenset()
    store.open(3)
    assert list(store.items(3)) == [(key(1), b"a")]
    assert store.checkpoint(3) == 10


def test_a_released_partition_keeps_its_files_and_a_dropped_one_does_not(
    on_disk: Callable[[], RocksStore], tmp_path: Path
):
    store = on_disk()
    store.begin("one")
    for partition in (0, 1):
        store.write(partition, [(key(1), b"a")], 9)
    store.release(0)
    store.drop(1)
    assert [path.name for path in (tmp_path / "rows" / "one").iterdir()] == ["0"]
    store.open(0)
    assert (store.checkpoint(0), store.get(0, key(1))) == (9, b"a")


def test_rows_whose_files_cannot_be_removed_do_not_come_back(
    on_disk: Callable[[], RocksStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = on_disk()
    store.begin("one")
    store.write(0, [(key(1), b"a")], 9)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        with pytest.raises(OSError, match="refused"):
            store.drop(0)
    store.open(0)
    assert (store.checkpoint(0), list(store.items(0))) == (None, [])
    assert list((tmp_path / "rows" / "one").iterdir()) == []


def refuse(path: Path, *, ignore_errors: bool = False) -> None:
    if not ignore_errors:
        raise OSError(f"refused: {path}")


def test_a_partition_without_rows_has_no_files(on_disk: Callable[[], RocksStore], tmp_path: Path):
    store = on_disk()
    store.begin("one")
    for partition in (0, 1):
        store.open(partition)
    assert store.partitions() == {0, 1}
    assert (store.get(0, key(1)), store.get_many(0, [key(1)]), list(store.items(0))) == (None, [None], [])
    store.write(1, [])
    assert [path.name for path in (tmp_path / "rows" / "one").iterdir()] == ["1"]
    for partition in (0, 1):
        store.drop(partition)
    assert store.partitions() == frozenset()


def test_files_that_cannot_be_read_are_taken_from_the_changelog_again(
    on_disk: Callable[[], RocksStore], tmp_path: Path
):
    store = on_disk()
    store.begin("one")
    store.write(0, [(key(1), b"a")], 9)
    store = on_disk()
    for manifest in (tmp_path / "rows" / "one" / "0").glob("MANIFEST*"):
        manifest.write_bytes(b"not a manifest")
    store.begin("one")
    store.open(0)
    assert (store.checkpoint(0), list(store.items(0))) == (None, [])
    store.write(0, [(key(1), b"b")], 1)


def test_files_older_than_the_changelogs_deletions_are_taken_from_it_again(tmp_path: Path):
    store = rocks(tmp_path)
    store.begin("one")
    for partition in (0, 1):
        store.write(partition, [(key(1), b"a")], 9)
    store.close()
    for file in (tmp_path / "one" / "0").iterdir():
        os.utime(file, (1_000.0, 1_000.0))
    for file in (tmp_path / "one" / "1").iterdir():
        os.utime(file, (2_000.0, 2_000.0))
    store = rocks(tmp_path, now_s=1_500.0 + DAY_S)
    store.begin("one")
    for partition in (0, 1):
        store.open(partition)
    assert [store.checkpoint(0), store.checkpoint(1)] == [None, 9]
    store.close()


def test_files_that_another_has_open_are_refused_by_name(on_disk: Callable[[], RocksStore], tmp_path: Path):
    store = on_disk()
    store.begin("one")
    store.write(0, [(key(1), b"a")], 9)
    other = rocks(tmp_path / "rows")
    other.begin("one")
    with pytest.raises(SettingsError, match=r"worker\.data_dir: .*rows/one/0 is open in another process"):
        other.open(0)
    assert store.get(0, key(1)) == b"a"


def test_rows_beyond_the_cache_are_on_disk_and_not_in_memory(tmp_path: Path):
    memory = RocksMemory(CACHE_BYTES)
    store = RocksStore(tmp_path, memory, ManualClock(datetime.fromtimestamp(0, UTC)), max_age_s=DAY_S)
    store.begin("one")
    before_bytes = psutil.Process().memory_info().rss
    for start in range(0, 300_000, 1_000):
        store.write(start // 1_000 % 4, [(key(start + i), os.urandom(400)) for i in range(1_000)], start)
    assert all(len(list(store.items(partition))) == 75_000 for partition in range(4))
    on_disk_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert on_disk_bytes > 100 * MIB
    assert (
        psutil.Process().memory_info().rss - before_bytes < CACHE_BYTES + 75 * MIB
    )  # items() of one partition: 30 MiB
    assert memory.cache.get_usage() < 1.25 * CACHE_BYTES
    store.close()


def test_memory_and_disk_stay_flat_while_a_million_windows_come_and_expire(store: RowStore, tmp_path: Path):
    step, windows, kept, value = 2_000, 1_000_000, 2_000, b"v" * 200
    # Expiry by a scan from the oldest window on, as the engine does it: nothing is remembered for a window.
    resident_bytes: list[int] = []
    for start in range(0, windows, step):
        born: list[Change] = [(key(start + i), value) for i in range(step)]
        due = [(found, None) for found, _ in store.scan(0, *scan_bounds("tl", 1, 0, start + step - kept))]
        store.write(0, [*born, *due], start + step)
        if start in (windows // 5, windows - step):
            resident_bytes.append(psutil.Process().memory_info().rss)
    assert sum(1 for _ in store.items(0)) == kept
    assert resident_bytes[1] - resident_bytes[0] < CACHE_BYTES + 16 * MIB
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 96 * MIB
