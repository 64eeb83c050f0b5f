"""A tenant is erased from a partition while records come, and whatever is delivered again: one work that counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from agents import erasable_work
from agents.effect import Done
from agents.effects import Effects, PartitionWork, Prompt
from agents.erasable_work import ErasableWork, Order, Place
from contracts.names import TenantId
from contracts.requeue import Origin, Requeued, to_headers
from runtime.clock import ManualClock
from streams.record_chunk import RecordChunk
from tables import erasure_marks
from tables.erasable_store import ErasableStore
from tables.rows import WindowKey, encode_key
from tables.store import Change, MemoryStore
from tests.support.aio import run
from tests.support.chunks import LogRecord, chunk
from tests.support.effects import CLUSTER, LATER, EffectBench


class Counting(Prompt):
    """How many records each tenant has, in memory until they are taken; rows name the last one's offset."""

    def __init__(self, store: ErasableStore) -> None:
        self.counts = Counter[str]()
        self.position = -1
        self.changed: set[str] = set()
        for key, raw in store.items(0):
            if tenant := erasure_marks.tenant_of(key):
                self.counts[tenant] = msgspec.msgpack.decode(raw)[3]

    def fold(self, records: RecordChunk, now_s: float) -> None:
        del now_s
        for record in records:
            tenant = json.loads(record.value or b"")["tenant_id"]
            self.counts[tenant] += 1
            self.changed.add(tenant)
            self.position = max(self.position, record.offset)

    def take_back(self, chunk: RecordChunk, now_s: float) -> None:
        self.fold(chunk, now_s)

    def take(self, now_s: float) -> Effects:
        return Effects(rows=tuple(self.take_rows(now_s)))

    def take_rows(self, now_s: float) -> Sequence[Change]:
        del now_s
        changed, self.changed = self.changed, set()
        return [(key_of(t), msgspec.msgpack.encode([1, self.position, -1, self.counts[t]])) for t in sorted(changed)]

    def settled(self, effects: Effects) -> None:
        del effects


def key_of(tenant: str) -> bytes:
    return encode_key("n", WindowKey(TenantId(tenant), (), 0))


def records(tenant: str, *offsets: int) -> list[LogRecord]:
    return [LogRecord(json.dumps({"tenant_id": tenant}).encode(), offset) for offset in offsets]


class Bench:
    def __init__(self) -> None:
        self.store = ErasableStore(MemoryStore())
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.open()

    def open(self) -> None:
        """As after a restart: what was written is there."""
        self.store.open(0)
        place = Place("n", 0, self.store, 0, lambda: "now", lambda _partition: Counting(self.store), self.clock)
        self.work = ErasableWork(place)

    def flush(self, times: int = 1) -> None:
        for _ in range(times):
            effects = self.work.take(0.0)
            self.store.write(0, effects.rows)
            self.work.settled(effects)

    def rows(self) -> dict[str, int]:
        found = {erasure_marks.tenant_of(key): msgspec.msgpack.decode(raw) for key, raw in self.store.inner.items(0)}
        return {tenant: row[3] for tenant, row in found.items() if tenant}

    def fold(self, *parts: list[LogRecord]) -> None:
        self.work.fold(chunk(sorted((r for part in parts for r in part), key=lambda r: r.offset)), 0.0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_tenant_is_gone_with_what_was_in_memory_and_others_keep_theirs(bench: Bench):
    bench.fold(records("gone", 0, 1), records("stays", 2))
    bench.flush()
    bench.fold(records("gone", 3), records("stays", 4))
    bench.work.erase(Order("gone", "erase-1", 4))
    assert bench.work.is_full(), "nothing more comes in while it drains"
    assert bench.work.erased("gone", "erase-1") is None
    bench.flush(5)
    assert not bench.work.is_full()
    assert (bench.rows(), bench.work.erased("gone", "erase-1")) == ({"stays": 2}, 1)
    bench.work.erase(Order("gone", "erase-1", 99))
    bench.flush(5)
    bench.fold(records("gone", 5), records("stays", 6))
    bench.flush()
    assert bench.rows() == {"gone": 1, "stays": 3}, "the same order again changes nothing"


def test_what_is_delivered_again_is_left_out_and_so_are_letters_of_it(bench: Bench):
    bench.fold(records("gone", 0, 1), records("stays", 2))
    bench.work.erase(Order("gone", "erase-1", 10))
    bench.flush(5)
    bench.open()
    bench.fold(records("gone", 1, 9, 10, 11), records("stays", 12))
    back = []
    for offset, incarnation in ((9, "now"), (30, "before"), (13, "now")):
        (letter,) = records("gone", offset)
        letter.headers = tuple(to_headers(Requeued(Origin("headrace.tools", incarnation, 0, offset), offset, offset)))
        back.append(letter)
    back.sort(key=lambda letter: letter.offset)
    bench.work.take_back(chunk(back), 0.0)
    bench.flush()
    assert bench.rows() == {"gone": 2, "stays": 2}, "offset 11, and the letter of offset 13"


def test_a_row_that_is_new_since_is_not_swept_with_the_old_ones(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(erasable_work, "SWEEP_ROWS", 1)
    bench.fold(*(records(tenant, n) for n, tenant in enumerate(("a", "b", "gone", "z"))))
    bench.flush()
    bench.work.erase(Order("gone", "erase-1", 3))
    bench.flush()  # drained and marked: the old row is there still, and hidden
    assert bench.rows()["gone"] == 1
    bench.fold(records("gone", 4, 5))
    bench.flush(8)
    assert (bench.rows()["gone"], bench.work.erased("gone", "erase-1")) == (2, 0)


def test_whoever_takes_the_partition_up_goes_on_sweeping(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(erasable_work, "SWEEP_ROWS", 1)
    bench.fold(records("a", 0), records("gone", 1))
    bench.flush()
    bench.work.erase(Order("gone", "erase-1", 1))
    bench.flush(2)
    assert "gone" in bench.rows()
    bench.open()
    bench.flush(6)
    assert (bench.rows(), bench.work.erased("gone", "erase-1")) == ({"a": 1}, 1)


def test_two_tenants_are_erased_one_after_the_other(bench: Bench):
    bench.fold(records("a", 0), records("b", 1), records("c", 2))
    bench.work.erase(Order("a", "erase-1", 2))
    bench.work.erase(Order("b", "erase-2", 2))
    bench.flush(10)
    assert (bench.rows(), bench.work.erased("a", "erase-1"), bench.work.erased("b", "erase-2")) == ({"c": 1}, 1, 1)


async def shop_without_one_tenant() -> None:
    bench = EffectBench(order="none", concurrency=1)
    bench.shop.script = lambda _record, _which: LATER
    await bench.fold(0, "1:gone", tenant="gone")
    await bench.flush()
    bench.shop.script = lambda _record, _which: Done()
    bench.shop.held = True
    await bench.fold(1, "2:stays")
    await bench.fold(2, "3:gone", tenant="gone")
    await bench.fold(3, "4:stays")
    store = ErasableStore(bench.store)
    first = [bench.work]

    def open_work(_partition: int) -> PartitionWork:
        bench.store = store
        return first.pop() if first else bench.opened()

    work = bench.work = ErasableWork(Place("n", 0, store, 0, lambda: CLUSTER, open_work, bench.clock))
    work.erase(Order("gone", "erase-1", 3))
    await bench.flush()
    assert bench.called() == ["1:gone", "2:stays"], "nothing is begun while it drains"
    bench.let_go(["2:stays"])
    bench.shop.held = False
    for _ in range(6):
        await bench.flush()
    await bench.pass_s(3600)
    assert bench.shop.done == ["2:stays", "4:stays"], "what another tenant has waiting is done, and only that"
    assert bench.acknowledged_to == 3
    assert work.erased("gone", "erase-1") == 2
    await work.stop()


def test_an_effect_is_not_run_for_what_waited_of_an_erased_tenant():
    run(shop_without_one_tenant())


def test_records_of_an_erased_tenant_at_the_end_of_the_log_do_not_hold_it_up():
    """They are delivered again when a worker dies between the mark and its commit; nothing may come behind them."""

    async def scenario() -> None:
        bench = EffectBench()
        store = ErasableStore(bench.store)

        def open_work(_partition: int) -> PartitionWork:
            bench.store = store
            return bench.opened()

        place = Place("n", 0, store, 0, lambda: CLUSTER, open_work, bench.clock)
        bench.work = ErasableWork(place)
        bench.work.erase(Order("gone", "erase-1", 3))
        for _ in range(5):
            await bench.flush()
        bench.work = ErasableWork(place)
        await bench.fold(0, "1:stays")
        await bench.fold(1, "2:gone", "3:gone", tenant="gone")
        await bench.flush()
        await bench.flush()
        assert bench.shop.done == ["1:stays"]
        assert bench.acknowledged_to == 2

    run(scenario())
