"""Dead letters that come back to a table of windows: each counts once, in its window, whatever happens in between."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agents.come_back import KEY
from agents.effects import Effects
from agents.latency_messages import messages_of
from agents.letter_queue import AT_ONCE
from agents.metrics import AgentMetrics
from agents.window_letters import WindowLetters
from agents.window_work import Surroundings, WindowWork
from contracts import push
from contracts.requeue import Origin, Requeued, to_headers
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.settings_tables import ToolLatencySettings
from streams.dead_letters import DeadLetter, Recovered
from streams.kafka_log import Outgoing
from tables import tool_latency as tl
from tables.row_codec import RowCodec
from tables.rows import newest
from tables.store import Change, MemoryStore
from tables.window_partition import WindowPartition
from tables.windows import rules_of
from tests.support.chunks import LogRecord, chunk

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(tool_latency=ToolLatencySettings(window_s=10, retention_s=3600, lateness_s=1))


class Bench:
    """One partition, its changelog (as record batches) and a clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.changelog: list[Change] = []
        self.offset = self.back_offset = -1
        self.back: list[LogRecord] = []
        self.letters: list[DeadLetter] = []
        self.recovered: list[Recovered] = []
        self.pushed: list[push.PushMessage] = []
        self.aside: list[Outgoing] = []
        self.source: list[LogRecord] = []
        self.source_to = self.back_to = 0
        self.was_at_end: Callable[[], bool] = lambda: True
        self.restart()

    def restart(self) -> None:
        """A successor recovers what is on the changelog, and reads on from what was acknowledged."""
        self.store = MemoryStore()
        for key, value in self.changelog:
            self.store.write(0, [(key, value if value is None else newest(self.store.get(0, key), value))])
        self.kind = tl.kind(SETTINGS)
        rules = rules_of(SETTINGS.tool_latency, SETTINGS.worker)
        rows = WindowPartition(0, self.kind, rules, self.store)
        rows.recover(self.clock.monotonic_s())
        around = Surroundings("tool_calls", "headrace.late", SETTINGS, AgentMetrics(Metrics()), self.clock)
        letters = WindowLetters(rows, around, self.store.get(0, KEY), self.was_at_end)
        self.work = WindowWork(rows, messages_of(SETTINGS), around, letters=letters)
        self.read_to, self.back_read_to = self.source_to, self.back_to

    def call(self, tool: str, *, at_s: float = 0) -> None:
        """One more record of the source."""
        self.offset += 1
        self.source.append(LogRecord(self.value(tool, at_s), self.offset, self.now_ms()))

    def come_back(self, seq: int, tool: str, *, at_s: float = 0, value: bytes | None = None) -> None:
        """One more record on the retry topic."""
        self.back_offset += 1
        headers = to_headers(Requeued(Origin("headrace.tools", "1a2b", 0, 1000 + seq), 100 + seq, seq))
        payload = self.value(tool, at_s) if value is None else value
        self.back.append(LogRecord(payload, self.back_offset, self.now_ms(), headers=headers))

    def value(self, tool: str, at_s: float) -> bytes:
        ts = (START + timedelta(seconds=at_s)).isoformat()
        body = {"event": "tool_call", "version": "1.0", "tenant_id": "acme", "tool": tool, "ts": ts}
        return json.dumps(body | {"args": {}, "latency_ms": 100}).encode()

    def now_ms(self) -> int:
        return int(1000 * self.clock.wall_s())

    def read(self) -> None:
        """Take in all that has come."""
        now_s = self.clock.monotonic_s()
        if self.source[self.read_to :]:
            self.work.fold(chunk(self.source[self.read_to :]), now_s)
        if self.back[self.back_read_to :]:
            self.work.take_back(chunk(self.back[self.back_read_to :], topic="headrace.retry.tool-calls"), now_s)
        self.read_to, self.back_read_to = len(self.source), len(self.back)

    def flush(self, *, batches: int = 99) -> Effects:
        """A flush; with fewer `batches` than it has, the worker dies behind so many."""
        effects = self.work.take(self.clock.monotonic_s())
        written: Sequence[Sequence[Change]] = [b for b in (effects.rows, *effects.row_batches) if b]
        for batch in written[:batches]:
            self.changelog += batch
            self.store.write(0, batch)
        self.letters += effects.letters
        if batches < len(written):
            self.restart()
            return effects
        self.pushed += [push.decode(record.value or b"") for record in effects.push]
        self.aside += effects.aside
        self.recovered += effects.recovered
        self.work.settled(effects)
        self.source_to = self.read_to
        self.back_to = self.back_read_to if effects.back_from is None else effects.back_from
        return effects

    def counts(self) -> dict[tuple[str, int], int]:
        """Calls by tool and window, as a restart finds them."""
        codec = RowCodec(self.kind)
        found = {}
        for raw_key, raw in self.store.items(0):
            key = codec.decode_key(raw_key)
            if key is not None:
                found[key.subject[0], (key.start_ms - int(1000 * START.timestamp())) // 10_000] = codec.decode(
                    raw
                ).state.count
        return found


def test_a_letter_counts_in_its_window_and_is_told_of_as_a_new_revision():
    bench = Bench()
    bench.call("search")
    bench.clock.advance(15)
    bench.call("search", at_s=15)
    bench.read()
    bench.flush()
    (first,) = [msgspec.json.decode(message.data) for message in bench.pushed]
    bench.come_back(1, "search", at_s=2)
    bench.read()
    bench.flush()
    _, second = [msgspec.json.decode(message.data) for message in bench.pushed]
    assert (first["count"], second["count"]) == (1, 2)
    assert second["revision"] > first["revision"]
    assert bench.pushed[0].id != bench.pushed[1].id
    assert bench.recovered == [(101, 1)]
    bench.flush()
    bench.restart()
    bench.flush()
    assert len(bench.pushed) == 2, "told again although nothing changed"
    assert bench.counts() == {("search", 0): 2, ("search", 1): 1}


def test_a_revision_that_a_crash_kept_from_being_told_is_told_by_the_successor():
    bench = Bench()
    bench.call("search")
    bench.clock.advance(15)
    bench.call("search", at_s=15)
    bench.read()
    bench.flush()
    bench.flush()
    bench.come_back(1, "search", at_s=2)
    bench.read()
    effects = bench.work.take(bench.clock.monotonic_s())
    for batch in (effects.rows, *effects.row_batches):
        bench.changelog += batch
    bench.restart()
    bench.clock.advance(1)
    bench.call("search", at_s=16)
    bench.read()
    bench.flush()
    assert [msgspec.json.decode(message.data)["count"] for message in bench.pushed] == [1, 2]
    assert bench.counts()["search", 0] == 2


def test_a_letter_between_a_message_and_its_acknowledgement_is_told_of_afterwards():
    bench = Bench()
    bench.call("search")
    bench.clock.advance(15)
    bench.call("search", at_s=15)
    bench.read()
    effects = bench.work.take(bench.clock.monotonic_s())
    bench.store.write(0, effects.rows)
    bench.come_back(1, "search", at_s=2)
    bench.read()
    bench.work.settled(effects)
    bench.flush()
    assert [msgspec.json.decode(message.data)["count"] for message in bench.pushed] == [2]


def test_a_letter_whose_window_has_expired_is_set_aside_and_that_is_its_end():
    bench = Bench()
    bench.clock.advance(7200)
    bench.call("search", at_s=7200)
    bench.come_back(1, "search")
    bench.read()
    bench.flush()
    assert bench.counts() == {("search", 720): 1}
    assert [record.topic for record in bench.aside] == ["headrace.late"]
    assert bench.recovered == [(101, 1)]


def test_a_letter_that_is_still_broken_is_the_same_letter_again():
    bench = Bench()
    bench.come_back(4, "search", value=b"{")
    bench.come_back(5, "search", at_s=9_000_000)
    bench.read()
    bench.flush()
    assert [(letter.error_class, letter.offset, letter.requeue_seq) for letter in bench.letters] == [
        ("BadJson", 1004, 4),
        ("OutOfRange", 1005, 5),
    ]
    assert not bench.recovered


def test_many_letters_are_taken_some_with_each_flush_and_acknowledged_no_sooner():
    bench = Bench()
    for seq in range(2 * AT_ONCE + 1):
        bench.come_back(seq, "search")
    bench.read()
    assert [bench.flush().back_from for _ in range(3)] == [AT_ONCE, 2 * AT_ONCE, None]
    assert bench.counts() == {("search", 0): 2 * AT_ONCE + 1}


def test_a_letter_that_is_in_the_rows_and_was_not_told_of_is_told_of_when_it_comes_again_and_a_dead_one_is_not():
    bench = Bench()
    bench.come_back(4, "search", value=b"{")
    bench.come_back(5, "search")
    bench.read()
    effects = bench.work.take(bench.clock.monotonic_s())
    for batch in effects.row_batches:
        bench.changelog += batch
    bench.restart()
    bench.read()
    bench.flush()
    assert bench.recovered == [(105, 5)]
    assert bench.counts() == {("search", 0): 1}
    bench.come_back(6, "search")
    bench.read()
    bench.flush()
    bench.flush()
    bench.restart()
    bench.come_back(5, "search")
    bench.read()
    bench.flush()
    assert bench.recovered[1:] == [(106, 6)], "it is known that 5 was told of"


@pytest.mark.parametrize("with_records", [False, True])
def test_a_worker_that_dies_between_any_two_batches_of_a_flush_leaves_letters_and_their_number_together(
    with_records: bool,  # noqa: FBT001 - a case
):
    batches = 0
    while True:
        bench = Bench()
        if with_records:
            bench.call("search")
        bench.come_back(1, "search")
        bench.come_back(2, "other")
        bench.read()
        effects = bench.flush(batches=batches)
        bench.read()
        bench.flush()
        bench.restart()
        assert bench.counts() == {("search", 0): 1 + with_records, ("other", 0): 1}, f"died behind {batches}"
        if batches == len([batch for batch in (effects.rows, *effects.row_batches) if batch]):
            return
        batches += 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 3)),
        st.tuples(st.just("back"), st.integers(0, 3)),
        st.tuples(st.just("again"), st.integers(0, 5)),
        st.tuples(st.just("read"), st.just(0)),
        st.tuples(st.just("flush"), st.just(99)),
        st.tuples(st.just("flush"), st.integers(0, 1)),
        st.tuples(st.just("die"), st.just(0)),
    ),
    max_size=30,
)


@examples(max_examples=120)
@given(STEPS)
def test_each_call_and_each_letter_counts_once_whatever_comes_twice_and_whenever_the_worker_dies(
    steps: list[tuple[str, int]],
):
    bench, expected, seq = Bench(), Counter[tuple[str, int]](), 0
    sent: list[tuple[int, int]] = []
    for step, number in steps:
        if step == "call":
            bench.call("search", at_s=10 * number)
            expected["search", number] += 1
        elif step == "back":
            seq += 1
            sent.append((seq, number))
            bench.come_back(seq, "search", at_s=10 * number)
            expected["search", number] += 1
        elif step == "again":  # the sender died and sends again from one that it did not see acknowledged
            for again, window in sent[-number:] if number else []:
                bench.come_back(again, "search", at_s=10 * window)
        elif step == "read":
            bench.read()
        elif step == "flush":
            bench.flush(batches=number)
        else:
            bench.restart()
    bench.read()
    while bench.flush().back_from is not None:
        pass
    bench.flush()
    bench.restart()
    assert bench.counts() == expected
    assert {told.seq for told in bench.recovered} == {number for number, _ in sent}, "somebody was not told"


class Heard:
    """When the source was read to its end."""

    def __init__(self) -> None:
        self.at_end = False


def owner_after(frozen: Bench, heard: Heard) -> Bench:
    """Who takes the partition over while `frozen` stands still: it reads on from what that one had committed."""
    bench = Bench()
    bench.changelog, bench.source, bench.offset = list(frozen.changelog), list(frozen.source), frozen.offset
    bench.source_to = frozen.source_to
    bench.was_at_end = lambda: heard.at_end
    bench.restart()
    return bench


def late_rows(frozen: Bench) -> list[Change]:
    """What it writes when it wakes up."""
    effects = frozen.work.take(frozen.clock.monotonic_s())
    return [change for batch in (effects.rows, *effects.row_batches) for change in batch]


def test_a_row_that_a_frozen_owner_writes_behind_a_letter_does_not_win_over_it():
    frozen = Bench()
    frozen.call("search")
    frozen.read()
    owner = owner_after(frozen, Heard())
    owner.was_at_end = lambda: True
    owner.restart()
    owner.come_back(1, "search")
    owner.read()
    owner.flush()
    owner.changelog += late_rows(frozen)
    owner.restart()
    assert owner.counts() == {("search", 0): 2}


def test_a_letter_waits_until_its_owner_has_read_as_far_as_a_frozen_one_can_have():
    frozen = Bench()
    frozen.call("search")
    frozen.call("other")
    frozen.read()
    heard = Heard()
    owner = owner_after(frozen, heard)
    owner.come_back(1, "search")
    owner.source, rest = owner.source[:1], owner.source[1:]
    owner.read()
    assert owner.flush().back_from == 0
    assert owner.counts() == {("search", 0): 1}
    owner.source += rest
    owner.read()
    heard.at_end = True
    assert owner.flush().back_from is None
    owner.changelog += late_rows(frozen)
    owner.restart()
    assert owner.counts() == {("search", 0): 2, ("other", 0): 1}
    assert owner.recovered == [(101, 1)]


def test_a_partition_that_is_handed_over_keeps_no_letter_waiting():
    bench = Bench()
    bench.was_at_end = lambda: False
    bench.restart()
    bench.come_back(1, "search")
    bench.read()
    assert bench.flush().back_from == 0
    bench.work.hand_over()
    assert bench.flush().back_from is None
    assert bench.counts() == {("search", 0): 1}
