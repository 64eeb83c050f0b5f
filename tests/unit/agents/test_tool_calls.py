"""What the tool call agent makes of records: rows, windows, alerts, letters, late events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from agents import alert_rules
from agents.effects import Effects
from agents.latency_alerts import LatencyAlerts
from agents.latency_messages import messages_of
from agents.listening import Listening
from agents.metrics import AgentMetrics
from agents.tool_calls import alert_rule
from agents.window_work import Replaced, Surroundings, WindowWork
from contracts.names import TenantId
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.kafka_connection import MAX_RECORD_BYTES
from streams.kafka_log import Outgoing
from streams.log_ends import EndSeen
from tables import tool_latency as tl
from tables.rows import newest
from tables.store import MemoryStore
from tables.window_partition import DEFAULT_CACHE_BYTES, WindowPartition
from tables.windows import rules_of
from tests.support.chunks import LogRecord, chunk

START = datetime(2026, 1, 1, tzinfo=UTC)
TENANT = "11111111-1111-4111-8111-111111111111"


class Bench:
    """One partition, its changelog and a clock."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        forget_s: float = 3600,
        listening: Listening | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.forget_s, self.listening, self.cache_bytes = forget_s, listening, cache_bytes
        self.settings = settings or Settings()
        self.clock = ManualClock(START)
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.offset = 0
        self.pushed: list[Outgoing] = []
        self.restart()

    def restart(self) -> None:
        store = MemoryStore()
        for key, value in self.changelog:
            kept = value if value is None else newest(store.get(0, key), value)
            store.write(0, [(key, kept)])
        self.store = store
        rules = rules_of(self.settings.tool_latency, self.settings.worker)
        rows = WindowPartition(0, tl.kind(self.settings), rules, store, self.cache_bytes)
        rows.recover(self.clock.monotonic_s())
        messages = messages_of(self.settings)
        alerts = LatencyAlerts(
            rows, alert_rule(self.settings), messages, min_count=5, silence_s=30, forget_s=self.forget_s
        )
        alerts.recover(store, self.clock.monotonic_s())
        around = Surroundings("tool_calls", "headrace.late", self.settings, AgentMetrics(Metrics()), self.clock)
        self.rows, self.alerts = rows, alerts
        self.work = WindowWork(rows, messages, around, alerts, listening=self.listening)

    def call(
        self, latency_ms: float, *, at: datetime | None = None, tool: str = "search", times: int = 1, more: str = ""
    ) -> None:
        records = []
        for _ in range(times):
            ts = (at or self.clock.now()).isoformat()
            body = {"event": "tool_call", "version": "1.0", "tenant_id": TENANT, "tool": tool, "ts": ts}
            measured = {"args": {"more": more} if more else {}, "latency_ms": latency_ms}
            records.append(self.record(json.dumps(body | measured).encode()))
        self.fold(records)

    def fold(self, records: list[LogRecord]) -> None:
        self.work.fold(chunk(records), self.clock.monotonic_s())

    def record(self, value: bytes) -> LogRecord:
        self.offset += 1
        headers = (("tenant", TENANT.encode()),)
        return LogRecord(value, self.offset, int(1000 * self.clock.wall_s()), headers=headers)

    def flush(self, *, push_is_lost: bool = False) -> Effects:
        effects = self.work.take(self.clock.monotonic_s())
        self.changelog += effects.rows
        self.store.write(0, effects.rows)
        if not push_is_lost:
            self.pushed += [*effects.push, *effects.latest]
            self.work.settled(effects)
        return effects

    def flush_rows(self) -> None:
        """While messages are under way."""
        rows = self.work.take_rows(self.clock.monotonic_s())
        self.changelog += rows
        self.store.write(0, rows)

    def log_ids(self) -> list[str]:
        return [dict(r.headers)["pid"].decode() for r in self.pushed if r.topic == "headrace.push"]


def test_a_window_is_pushed_once_when_it_is_over_and_again_for_a_late_event():
    bench = Bench()
    bench.call(100, times=3)
    bench.flush()
    assert bench.log_ids() == []
    bench.clock.advance(12.5)
    bench.call(100)
    bench.flush()
    assert bench.log_ids() == [f"tlw:search:{int(START.timestamp() * 1000)}:4"]
    bench.flush()
    bench.flush()
    assert len(bench.log_ids()) == 1
    bench.call(100, at=START + timedelta(seconds=1))
    bench.flush()
    assert bench.log_ids()[1:] == [f"tlw:search:{int(START.timestamp() * 1000)}:6"]


def test_a_window_whose_push_was_lost_in_a_crash_is_pushed_after_recovery_with_the_same_bytes():
    bench = Bench()
    bench.call(100, times=3)
    bench.clock.advance(13)
    bench.call(100)
    lost = bench.flush(push_is_lost=True)
    bench.restart()
    bench.clock.advance(6)
    bench.call(100)
    bench.flush()
    again = [r for r in bench.pushed if r.topic == "headrace.push"]
    sent = [r for r in lost.push if r.topic == "headrace.push"]
    assert [(r.key, r.value) for r in sent] == [(r.key, r.value) for r in again][: len(sent)]
    bench.flush()
    told = bench.log_ids()
    bench.restart()
    bench.flush()
    assert bench.log_ids() == told


def test_a_slow_spell_raises_one_alert_and_clears_it():
    bench = Bench()
    for second in range(60):
        bench.call(5_000 if 10 <= second < 25 else 100, times=2)
        bench.flush()
        bench.clock.advance(1)
    alerts = [i for i in bench.log_ids() if i.startswith("al:")]
    assert [i.rsplit(":", 1)[1] for i in alerts] == ["raised", "resolved"]
    assert alerts[0].rsplit(":", 1)[0] == alerts[1].rsplit(":", 1)[0]


def test_an_alert_whose_push_was_lost_in_a_crash_is_told_after_recovery():
    bench = Bench()
    raised: list[str] = []
    for second in range(30):
        bench.call(5_000, times=2)
        effects = bench.work.take(bench.clock.monotonic_s())
        bench.changelog += effects.rows
        bench.store.write(0, effects.rows)
        raised = [dict(r.headers)["pid"].decode() for r in effects.push if b"al:" in dict(r.headers)["pid"]]
        if raised:
            break
        bench.work.settled(effects)
        bench.clock.advance(1)
        assert second < 29, "no alert"
    bench.restart()
    bench.flush()
    assert raised[0] in bench.log_ids()


def test_a_firing_alert_of_a_tool_that_nobody_calls_any_more_clears():
    bench = Bench()
    for _ in range(10):
        bench.call(5_000, times=2)
        bench.flush()
        bench.clock.advance(1)
    for _ in range(60):
        bench.flush()
        bench.clock.advance(1)
    assert [i.rsplit(":", 1)[1] for i in bench.log_ids() if i.startswith("al:")] == ["raised", "resolved"]


def test_what_does_not_decode_becomes_a_letter_and_its_neighbours_are_counted():
    bench = Bench()
    good = b'{"event":"tool_call","version":"1.0","tool":"t","args":{},"latency_ms":1,"ts":"2026-01-01T00:00:00Z"}'
    bench.fold([bench.record(v) for v in (good, b"{broken", good)])
    effects = bench.flush()
    assert [(letter.offset, letter.error_class) for letter in effects.letters] == [(2, "BadJson")]
    assert len(effects.rows) == 1


def test_an_event_from_the_future_becomes_a_letter_that_names_the_limit():
    bench = Bench()
    bench.call(1, at=START + timedelta(seconds=61))
    effects = bench.flush()
    assert [letter.error_class for letter in effects.letters] == ["OutOfRange"]
    assert "60000 ms" in effects.letters[0].error_text
    assert effects.rows == ()


def test_an_event_whose_window_is_no_longer_kept_is_set_aside_whole():
    bench = Bench()
    bench.call(1)
    bench.flush()
    bench.clock.advance(2 * 3600)
    bench.call(1)
    bench.call(7, at=START)
    effects = bench.flush()
    assert [record.topic for record in effects.aside] == ["headrace.late"]
    assert b'"latency_ms": 7' in (effects.aside[0].value or b"")


def test_a_late_event_that_its_topic_would_refuse_for_its_length_is_buried():
    bench = Bench()
    bench.call(1)
    bench.flush()
    bench.clock.advance(2 * 3600)
    bench.call(1)
    bench.call(7, at=START, tool="search", more="x" * MAX_RECORD_BYTES)
    effects = bench.flush()
    assert effects.aside == ()
    (letter,) = effects.letters
    assert letter.error_class == "TooLarge"
    assert "came too late" in letter.error_text


def test_an_expired_window_is_deleted_from_the_changelog():
    bench = Bench()
    bench.call(1)
    bench.flush()
    first_key = bench.changelog[0][0]
    bench.clock.advance(3700)
    bench.call(1)
    for _ in range(4):
        bench.flush()
    assert (first_key, None) in bench.changelog
    assert bench.store.get(0, first_key) is None


def test_running_windows_go_to_latest_at_most_once_a_second():
    bench = Bench()
    for _ in range(20):
        bench.call(10)
        bench.flush()
        bench.clock.advance(0.1)
    running = [r for r in bench.pushed if r.topic == "headrace.push-latest"]
    assert len(running) == 2
    assert dict(running[0].headers)["ck"] == b"tools:search:running"


def test_headers_that_are_not_text_make_a_letter_of_a_call_that_names_no_tenant():
    bench = Bench()
    bare = b'{"event":"tool_call","version":"1.0","tool":"t","args":{},"latency_ms":1,"ts":"2026-01-01T00:00:00Z"}'
    record = bench.record(bare)
    record.headers = (("tenant", b"\xff"),)
    bench.fold([record])
    assert [letter.error_class for letter in bench.flush().letters] == ["BadText"]


def test_a_window_recovered_without_further_calls_is_closed_and_its_flag_written():
    bench = Bench()
    bench.call(100, times=3)
    bench.flush()
    bench.restart()
    for _ in range(30):
        bench.clock.advance(1)
        bench.flush()
    assert len(bench.log_ids()) == 1
    bench.restart()
    bench.clock.advance(30)
    bench.flush()
    assert len(bench.log_ids()) == 1


def test_a_slow_spell_folded_in_one_backlog_is_raised_and_resolved():
    bench = Bench()
    records = []
    for second in range(60):
        bench.clock.advance(1)
        ts = bench.clock.now().isoformat()
        body = {"event": "tool_call", "version": "1.0", "tenant_id": TENANT, "tool": "search", "args": {}, "ts": ts}
        slow = 10 <= second < 25
        records += [bench.record(json.dumps(body | {"latency_ms": 5_000 if slow else 100}).encode()) for _ in range(3)]
    bench.fold(records)
    bench.flush()
    alerts = [i.rsplit(":", 1)[1] for i in bench.log_ids() if i.startswith("al:")]
    assert alerts == ["raised", "resolved"]


def test_an_entry_that_the_mirror_refused_becomes_a_letter_and_is_not_counted():
    bench = Bench()
    good = b'{"event":"tool_call","version":"1.0","tool":"t","args":{},"latency_ms":1,"ts":"2026-01-01T00:00:00Z"}'
    refused, fine = bench.record(good), bench.record(good)
    refused.headers = (("invalid", b"BadText: not UTF-8"),)
    bench.fold([refused, fine])
    effects = bench.flush()
    assert [(letter.offset, letter.error_class) for letter in effects.letters] == [(1, "BadEntry")]
    assert len(effects.rows) == 1


def test_a_backlog_after_a_long_outage_is_counted_whole():
    bench = Bench()
    bench.call(100)
    bench.flush()
    first = bench.clock.now()
    bench.clock.advance(2 * 3600)
    bench.flush()
    for minute in range(1, 120, 10):
        bench.call(100, at=first + timedelta(minutes=minute))
    effects = bench.flush()
    assert effects.aside == ()


def test_one_records_timestamp_far_ahead_does_not_run_the_clock_away():
    bench = Bench()
    ahead = bench.record(b"{broken")
    ahead.timestamp += 86_400_000
    bench.fold([ahead])
    for _ in range(20):
        bench.clock.advance(9)
        bench.call(100)
        assert bench.flush().aside == ()


def test_a_bad_record_with_a_header_without_value_becomes_a_letter():
    bench = Bench()
    record = bench.record(b"{broken")
    record.headers = (("tenant", None), ("x", None))  # type: ignore[assignment]
    bench.fold([record])
    assert [letter.error_class for letter in bench.flush().letters] == ["BadJson"]


def test_versions_of_a_tool_are_counted_apart_and_judged_together():
    bench = Bench()
    body: dict[str, object] = {"event": "tool_executed", "version": "1.0", "tenant_id": TENANT, "tool": "search"}
    body |= {"status": "ok"}
    raised: list[str] = []
    for second in range(10):
        ts = bench.clock.now().isoformat()
        calls = [body | {"ts": ts, "latency_ms": 5_000, "tool_version": v} for v in ("1", "2")]
        bench.fold([bench.record(json.dumps(each).encode()) for each in calls])
        bench.flush()
        bench.clock.advance(1)
        raised = [i for i in bench.log_ids() if i.endswith(":raised")]
        assert second < 9 or raised
    keys = {bench.rows._codec.decode_key(key) for key, _ in bench.store.items(0)}
    assert {key.subject for key in keys if key} == {("search", "1"), ("search", "2")}
    assert len(raised) == 1


def test_errors_are_counted_by_class_and_cache_hits_apart():
    bench = Bench()
    body: dict[str, str | int] = {"event": "tool_executed", "version": "1.0", "tenant_id": TENANT, "tool": "t"}
    body |= {"latency_ms": 1}
    ts = bench.clock.now().isoformat()
    more: list[dict[str, str | int]] = [
        {"status": "ok", "cache_hit": True},
        {"status": "ok", "cache_hit": False},
        {"status": "error", "error_class": "http_500", "cache_hit": False},
        {"status": "error", "error_class": "http_500"},
        {"status": "timeout"},
        {"status": "error"},
    ]
    bench.fold([bench.record(json.dumps(body | {"ts": ts} | each).encode()) for each in more])
    [(_, row)] = bench.rows.take_dirty().items()
    summary = tl.FOLD.summarise(row.state)
    assert summary["errors_by_class"] == {"http_500": 2, "timeout": 1, "unknown": 1}
    assert (summary["errors"], summary["cache_hits"], summary["cache_lookups"]) == (4, 1, 3)


def test_a_tool_that_is_called_no_more_is_forgotten_with_its_alert():
    bench = Bench(forget_s=100)
    for second in range(60):
        bench.call(5_000 if second < 10 else 100, times=2)
        bench.flush()
        bench.clock.advance(1)
    alert_rows = [key for key, _ in bench.store.items(0) if bench.rows._codec.decode_key(key) is None]
    assert len(alert_rows) == 1
    for _ in range(30):
        bench.clock.advance(10)
        bench.flush()
    assert (alert_rows[0], None) in bench.changelog
    assert not bench.alerts._tools
    assert not bench.alerts._states


def test_an_alert_that_comes_back_as_it_is_forgotten_is_kept():
    bench = Bench(forget_s=100)
    for second in range(60):
        bench.call(5_000 if second < 10 else 100, times=2)
        bench.flush()
        bench.clock.advance(1)
    bench.clock.advance(200)
    bench.alerts.judge(bench.clock.monotonic_s())
    assert not bench.alerts._states
    for _ in range(10):
        bench.call(5_000, times=2)
        bench.alerts.heard(bench.rows.apply(), bench.clock.monotonic_s())
        bench.alerts.judge(bench.clock.monotonic_s())
        bench.clock.advance(1)
    bench.flush()
    bench.restart()
    assert bench.alerts._states


def test_an_alert_row_of_a_newer_release_is_read():
    raw = alert_rules.encode(alert_rules.AlertState(transitions=3))
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(raw), "new field"])
    assert alert_rules.decode(newer) == alert_rules.AlertState(transitions=3)


def firing(bench: Bench, *tools: str) -> None:
    """Calls so slow that each of the tools has an alert."""
    for _ in range(10):
        for tool in tools:
            bench.call(5_000, times=2, tool=tool)
        bench.flush()
        bench.clock.advance(1)
    assert {state.phase for state in bench.alerts._states.values()} == {alert_rules.Phase.FIRING}


def test_an_outage_of_ours_resolves_no_alert_and_closes_no_window_before_the_backlog_is_read():
    answers: list[EndSeen] = []
    bench = Bench(listening=Listening(lambda: answers[-1] if answers else None, longest_gap_s=1.0))

    def second(*, called: bool = False, answered: bool = True) -> None:
        if called:
            bench.call(5_000)
        if answered:
            answers.append(EndSeen(len(answers), bench.offset))
        bench.flush()
        bench.clock.advance(1)

    def told(what: str) -> list[str]:
        return [i for i in bench.log_ids() if i.startswith(what)]

    for _ in range(15):
        second(called=True)
    closed = told("tlw:")
    for _ in range(60):
        second(answered=False)
    second()
    assert [i.rsplit(":", 1)[1] for i in told("al:")] == ["raised"]
    assert told("tlw:") == closed
    for late_s in range(15, 20):
        bench.call(5_000, at=START + timedelta(seconds=late_s))
    for _ in range(40):
        second()
    window_ms = int(1000 * (START + timedelta(seconds=10)).timestamp())
    assert told("tlw:")[len(closed) :] == [f"tlw:search:{window_ms}:{bench.offset + 1}"]
    assert [i.rsplit(":", 1)[1] for i in told("al:")] == ["raised", "resolved"]


def looked_at(bench: Bench) -> list[str]:
    """The tools whose readings the next flush asks for."""
    read, asked = bench.alerts._read, []

    def reading(subject: tuple[TenantId, str], tool: object) -> object:
        asked.append(subject[1])
        return read(subject, tool)  # type: ignore[arg-type]

    bench.alerts._read = reading  # type: ignore[method-assign, assignment]
    bench.flush()
    bench.alerts._read = read  # type: ignore[method-assign]
    return asked


def test_an_alert_is_looked_at_only_when_its_tool_was_called():
    bench = Bench()
    firing(bench, "search", "price", "stock")
    bench.flush()
    assert looked_at(bench) == []
    bench.call(100, tool="price")
    assert looked_at(bench) == ["price"]


def test_a_breach_that_others_calls_prove_long_enough_is_raised():
    bench = Bench()
    bench.call(5_000, times=5)
    bench.flush()
    assert [state.phase for state in bench.alerts._states.values()] == [alert_rules.Phase.PENDING]
    for _ in range(3):
        bench.clock.advance(1)
        bench.call(1, tool="price")
        bench.flush()
    assert [i.rsplit(":", 1)[1] for i in bench.log_ids() if i.startswith("al:")] == ["raised"]


def test_an_alert_taken_up_after_a_restart_is_resolved_by_silence_and_not_before_its_time():
    bench = Bench()
    firing(bench, "search")
    bench.restart()
    for second in range(40):
        bench.flush()
        told = [i.rsplit(":", 1)[1] for i in bench.log_ids() if i.startswith("al:")]
        assert (told == ["raised", "resolved"]) == (second >= 30)
        bench.clock.advance(1)


def test_other_rows_of_the_table_are_not_read_for_alerts():
    bench = Bench()
    firing(bench, "search")
    keys = [key for key, _ in bench.store.scan(0, *alert_rules.KEYS)]
    assert keys == [alert_rules.encode_key(TenantId(TENANT), "search")]
    assert len(list(bench.store.items(0))) > 1
    assert alert_rules.KEYS[0] < alert_rules.encode_key(TenantId(""), "") < alert_rules.KEYS[1]
    assert alert_rules.encode_key(TenantId("\U0010ffff" * 100), "z") < alert_rules.KEYS[1]


def test_a_row_that_changes_again_while_it_is_on_its_way_loses_nothing_however_little_memory_there_is():
    bench = Bench(cache_bytes=0)
    bench.call(100, times=2)
    under_way = bench.work.take(bench.clock.monotonic_s())
    bench.store.write(0, under_way.rows)
    bench.call(100)
    rows = bench.work.take_rows(bench.clock.monotonic_s())
    bench.work.settled(under_way)
    bench.call(100)
    bench.rows.apply_waiting()
    bench.store.write(0, rows)
    bench.flush()
    (row,) = [bench.rows.decode(raw) for _key, raw in bench.store.items(0)]
    assert row.state.count == 4


def test_a_slow_spell_that_was_written_while_messages_were_under_way_is_alerted_after_a_crash():
    bench = Bench()
    bench.work.take(bench.clock.monotonic_s())
    for _second in range(10):
        bench.call(5_000, times=2)
        bench.flush_rows()
        bench.clock.advance(1)
    bench.restart()
    bench.flush()
    assert [i.rsplit(":", 1)[1] for i in bench.log_ids() if i.startswith("al:")] == ["raised"]


def test_a_running_window_that_was_written_while_messages_were_under_way_is_told_by_the_next_flush():
    bench = Bench()
    bench.work.take(bench.clock.monotonic_s())
    bench.call(10)
    bench.flush_rows()
    bench.flush()
    assert [r.topic for r in bench.pushed] == ["headrace.push-latest"]


def test_only_a_replacement_that_cannot_be_read_is_called_unreadable():
    bench = Bench()
    bench.call(100)
    bench.flush()
    ((raw_key, raw),) = [(key, raw) for key, raw in bench.store.items(0) if bench.rows._codec.decode_key(key)]
    key = bench.rows._codec.decode_key(raw_key)
    assert key is not None
    newer = bytes([raw[0], 99]) + raw[2:]
    assert bench.work.replace(key, newer, read_up_to=9) is Replaced.UNREADABLE
    # A row of ours of another format is no fault of the replacement's: the process has to end.
    bench.restart()
    bench.store.write(0, [(raw_key, newer)])
    with pytest.raises(ValueError, match="format 99"):
        bench.work.replace(key, raw, read_up_to=9)
