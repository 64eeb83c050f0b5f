"""What an owner does with commands: wait for its turn, put the row in place, answer when it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from agents import backfill
from agents.backfill import ReplacementWork
from agents.effects import Effects
from agents.window_work import Replaced
from contracts.names import TenantId
from runtime.clock import ManualClock
from tables import replacement as wire
from tables.incarnations import Incarnation
from tables.replacement import Answer, Replacement, Result
from tables.rows import INCARNATION_SHIFT, WindowKey, encode_key
from tests.support.chunks import LogRecord, chunk

TOPIC_ID = "id1"
GROUP = "workers"


def key(number: int) -> bytes:
    return encode_key("tl", WindowKey(TenantId("acme"), ("search", ""), number))


def row(position: int, count: int = 1) -> bytes:
    return msgspec.msgpack.encode((1, position, position, count))


def command(number: int, *, read_up_to: int = 10, group: str = GROUP, topic_id: str = TOPIC_ID) -> Replacement:
    raw = row(read_up_to)
    return Replacement(wire.FORMAT, "job", "calls", group, topic_id, key(number), raw, read_up_to, force=False)


@dataclass
class Target:
    """A partition that takes every row into memory, and into its store when it is flushed."""

    store: dict[bytes, bytes] = field(default_factory=dict)
    held: dict[bytes, bytes] = field(default_factory=dict)
    answers: dict[int, Replaced] = field(default_factory=dict)
    asked: list[tuple[int, bytes, int]] = field(default_factory=list)

    def replace(self, window: WindowKey, raw: bytes, *, read_up_to: int, force: bool) -> Replaced:
        del force
        self.asked.append((window.start_ms, raw, read_up_to))
        result = self.answers.get(window.start_ms, Replaced.APPLIED)
        if result is Replaced.APPLIED:
            self.held[encode_key("tl", window)] = raw
        return result

    def flush(self) -> None:
        self.store |= self.held


@dataclass
class Table:
    """A table whose partition 2 is here, or nothing is."""

    here: Target | None
    number: int = 0
    woken: int = 0

    def target(self, partition: int) -> Target | None:
        assert partition == 2
        return self.here

    def incarnation(self, partition: int) -> tuple[Incarnation, str]:
        del partition
        return Incarnation(self.number, None), TOPIC_ID

    def stored(self, partition: int, raw_key: bytes) -> bytes | None:
        del partition
        return None if self.here is None else self.here.store.get(raw_key)

    def is_absent(self, partition: int, window: WindowKey) -> bool:
        del partition
        return self.here is None or encode_key("tl", window) not in self.here.held | self.here.store

    def wake(self, partition: int) -> None:
        del partition
        self.woken += 1


def work(table: Table, again: Callable[[int], None] = lambda _partition: None) -> ReplacementWork:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    return ReplacementWork(2, {"calls": table}, GROUP, "h.replaced", clock, again)


def told(at: ReplacementWork, commands: Sequence[Replacement | bytes], now_s: float = 0.0) -> None:
    values = [each if isinstance(each, bytes) else wire.encode(each) for each in commands]
    at.fold(chunk([LogRecord(value, offset) for offset, value in enumerate(values)], partition=2), now_s)


def answers(effects: Effects) -> list[tuple[bytes, Result]]:
    found: list[Answer] = [wire.decode_answer(each.value or b"") for each in effects.aside]
    assert all((each.topic, each.key) == ("h.replaced", b"job") for each in effects.aside)
    assert all((each.job, each.table, each.partition) == ("job", "calls", 2) for each in found)
    return [(each.key, each.result) for each in found]


def test_an_answer_comes_when_the_row_is_durable_and_not_before():
    table = Table(Target())
    at = work(table)
    told(at, [command(1)])
    assert answers(at.take(0.0)) == []
    assert table.woken == 1
    assert answers(at.take(0.1)) == []
    assert table.here is not None
    table.here.flush()
    assert answers(at.take(0.2)) == [(key(1), Result.APPLIED)]
    assert answers(at.take(0.3)) == []


def test_a_row_that_live_records_went_into_before_the_flush_is_durable_with_them():
    table = Table(Target())
    at = work(table)
    told(at, [command(1)])
    at.take(0.0)
    assert table.here is not None
    table.here.store[key(1)] = row(11, count=2)
    assert answers(at.take(0.1)) == [(key(1), Result.APPLIED)]


def test_an_older_row_in_the_store_is_no_sign_that_the_new_one_is_durable():
    target = Target(store={key(1): row(10, count=7)})
    at = work(Table(target))
    told(at, [command(1)])
    assert answers(at.take(0.0)) == []


def test_a_repeated_command_is_answered_same_only_when_the_first_one_is_durable():
    target = Target(answers={1: Replaced.SAME}, held={key(1): row(10)})
    at = work(Table(target))
    told(at, [command(1)])
    assert answers(at.take(0.0)) == []
    target.flush()
    assert answers(at.take(0.1)) == [(key(1), Result.SAME)]


def test_nothing_to_put_in_place_of_nothing_is_answered_at_once():
    at = work(Table(Target(answers={1: Replaced.SAME})))
    told(at, [command(1)])
    assert answers(at.take(0.0)) == [(key(1), Result.SAME)]


def test_newer_and_smaller_rows_are_answered_at_once():
    at = work(Table(Target(answers={1: Replaced.NEWER, 2: Replaced.SHRINKS}, held={key(1): b"", key(2): b""})))
    told(at, [command(1), command(2)])
    assert answers(at.take(0.0)) == [(key(1), Result.NEWER), (key(2), Result.SHRINKS)]


def test_only_so_many_rows_are_under_way_at_once():
    target = Target()
    at = work(Table(target))
    told(at, [command(number) for number in range(backfill.APPLY_AT_ONCE + 5)])
    at.take(0.0)
    assert len(target.asked) == backfill.APPLY_AT_ONCE
    target.flush()
    assert len(answers(at.take(0.1))) == backfill.APPLY_AT_ONCE
    target.flush()
    assert len(answers(at.take(0.2))) == 5


def test_while_rows_are_under_way_it_asks_to_be_called_again_and_no_longer():
    target, asked = Target(), list[int]()
    at = work(Table(target), asked.append)
    at.take(0.0)
    assert asked == []
    told(at, [command(1)])
    at.take(0.1)
    at.take(0.2)
    assert asked == [2, 2]
    target.flush()
    at.take(0.3)
    assert asked == [2, 2]


def test_whoever_asks_again_meanwhile_is_woken_once():
    woken = list[int]()

    async def asked() -> None:
        done = asyncio.Event()

        def wake(partition: int) -> None:
            woken.append(partition)
            if partition == 3:
                done.set()

        later = backfill.Later(wake)
        for partition in (2, 2, 3):
            later.ask(partition)
        await done.wait()

    asyncio.run(asked())
    assert woken == [2, 3]


def test_a_command_that_waits_already_is_not_carried_out_twice_and_one_that_was_answered_is():
    target = Target()
    at = work(Table(target))
    told(at, [command(1), command(1)])
    at.take(0.0)
    told(at, [command(1)])
    at.take(0.1)
    assert len(target.asked) == 1
    target.flush()
    at.take(0.2)
    told(at, [command(1)])
    at.take(0.3)
    assert len(target.asked) == 2


def test_a_partition_that_is_not_here_yet_is_waited_for_and_then_somebody_else_is_asked():
    table = Table(None)
    at = work(table)
    told(at, [command(1), command(2)], now_s=0.0)
    assert answers(at.take(backfill.PATIENCE_S - 0.1)) == []
    assert answers(at.take(backfill.PATIENCE_S)) == [(key(1), Result.ELSEWHERE), (key(2), Result.ELSEWHERE)]


def test_a_partition_that_comes_in_time_takes_what_waited():
    table = Table(None)
    at = work(table)
    told(at, [command(1)])
    at.take(0.0)
    table.here = Target()
    at.take(1.0)
    table.here.flush()
    assert answers(at.take(1.1)) == [(key(1), Result.APPLIED)]


def test_what_was_under_way_when_the_partition_was_taken_away_is_dropped():
    table = Table(Target())
    at = work(table)
    told(at, [command(1)])
    at.take(0.0)
    table.here = Target(store={key(1): row(10)})
    assert answers(at.take(0.1)) == []
    told(at, [command(1)])
    assert answers(at.take(0.2)) == [(key(1), Result.APPLIED)]


def test_a_table_that_this_worker_does_not_know_is_elsewhere():
    at = work(Table(Target()))
    told(at, [msgspec.structs.replace(command(1), table="unknown")])
    found = [wire.decode_answer(each.value or b"") for each in at.take(0.0).aside]
    assert [(each.table, each.result) for each in found] == [("unknown", Result.ELSEWHERE)]


def test_a_command_about_another_incarnation_of_the_topic_is_stale():
    target = Target()
    at = work(Table(target))
    told(at, [command(1, topic_id="id0")])
    assert answers(at.take(0.0)) == [(key(1), Result.STALE)]
    assert target.asked == []


def test_a_command_for_another_group_of_workers_is_none_of_ours():
    target = Target()
    at = work(Table(target))
    told(at, [command(1, group="others")])
    assert (answers(at.take(0.0)), target.asked) == ([], [])


def test_offsets_become_positions_of_the_incarnation():
    target = Target()
    at = work(Table(target, number=3))
    told(at, [command(1)])
    at.take(0.0)
    base = 3 << INCARNATION_SHIFT
    ((_start, raw, read_up_to),) = target.asked
    assert read_up_to == base + 10
    assert msgspec.msgpack.decode(raw) == [1, base + 10, base + 10, 1]


def test_a_row_that_this_release_cannot_read_is_refused():
    at = work(Table(Target(answers={1: Replaced.UNREADABLE}, held={key(1): row(10)})))
    told(at, [command(1)])
    assert answers(at.take(0.0)) == [(key(1), Result.REFUSED)]


def test_bytes_that_are_no_command_become_a_dead_letter():
    at = work(Table(Target()))
    newer = msgspec.structs.replace(command(1), format=wire.FORMAT + 1)
    told(at, [b"\xc1", newer])
    letters = at.take(0.0).letters
    assert [(letter.source, letter.offset, letter.error_class) for letter in letters] == [
        ("backfill", 0, "BadEntry"),
        ("backfill", 1, "BadEntry"),
    ]
    assert "upgrade" in letters[1].error_text
