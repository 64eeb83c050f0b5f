"""What the agents of the quality tables make of records: rows, messages, dead letters, nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agents import audio_messages, retrieval_messages
from agents.metrics import AgentMetrics
from agents.window_ports import WindowMessages
from agents.window_work import Surroundings, WindowWork
from contracts import push
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.kafka_log import Outgoing
from streams.record_chunk import RecordChunk, SourceRecord
from tables import audio_quality, retrieval_quality
from tables.fold import TableKind
from tables.row_codec import RowCodec
from tables.store import MemoryStore
from tables.window_partition import WindowPartition
from tables.windows import rules_of

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings()
SESSIONS, TENANTS = audio_quality.kinds(SETTINGS)
RETRIEVAL = retrieval_quality.kind(SETTINGS)
REPORT = {"event": "audio_quality_report", "version": "1.0", "tenant_id": "acme", "session_id": "s1"}
MEASURED = {"n": 50, "lost": 1, "late": 0, "concealed": 1, "jitter_ms": 4.0, "speech_dbfs": -20.0, "latency_ms": [8.0]}
SEARCH = {"event": "rag_retrieval", "version": "1.0", "tenant_id": "acme", "index": "docs", "latency_ms": 12.0}
FOUND = {"results": 3, "scores": [0.9, 0.8, 0.7], "relevance": [0, 1, 1], "relevant_total": 4}


class Bench:
    """One partition of one table, driven as the runner drives it."""

    def __init__(self, kind: TableKind[Any], messages: WindowMessages[Any]) -> None:
        self.kind = kind
        self.clock = ManualClock(START)
        self.store = MemoryStore()
        self.offset = -1
        lengths = SETTINGS.retrieval_quality if kind is RETRIEVAL else SETTINGS.audio_quality
        rows: WindowPartition[Any] = WindowPartition(0, kind, rules_of(lengths, SETTINGS.worker), self.store)
        around = Surroundings("quality", "headrace.late", SETTINGS, AgentMetrics(Metrics()), self.clock)
        self.work = WindowWork(rows, messages, around)
        self.letters: list[Any] = []
        self.pushed: list[Outgoing] = []

    def send(self, *events: dict[str, Any]) -> None:
        records = []
        for event in events:
            self.offset += 1
            stamp_ms = int(1000 * self.clock.wall_s())
            value = msgspec.json.encode(event)
            records.append(SourceRecord("headrace.source", 0, self.offset, stamp_ms, b"k", value, ()))
        self.work.fold(RecordChunk("headrace.source", 0, records, records[-1].timestamp), self.clock.monotonic_s())

    def flush(self) -> list[push.PushMessage]:
        effects = self.work.take(self.clock.monotonic_s())
        self.store.write(0, effects.rows)
        self.work.settled(effects)
        self.letters += effects.letters
        self.pushed += [*effects.push, *effects.latest]
        return [push.decode(record.value or b"") for record in (*effects.push, *effects.latest)]

    def summaries(self) -> list[dict[str, Any]]:
        codec: RowCodec[Any] = RowCodec(self.kind)
        return [self.kind.fold.summarise(codec.decode(raw).state) for _, raw in self.store.items(0)]


def report(seq: int, *, after_s: float = 0, **changed: Any) -> dict[str, Any]:  # noqa: ANN401
    return REPORT | MEASURED | {"seq": seq, "ts": (START + timedelta(seconds=after_s)).isoformat()} | changed


def search(*, after_s: float = 0, **changed: Any) -> dict[str, Any]:  # noqa: ANN401
    return SEARCH | FOUND | {"ts": (START + timedelta(seconds=after_s)).isoformat()} | changed


@pytest.mark.parametrize("ts", ["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-23:59"])
def test_an_event_at_the_end_of_time_is_buried_whatever_its_record_says(ts: str):
    for bench, event in ((retrieval_bench(), search(ts=ts)), (audio_bench(), report(0, ts=ts))):
        record = SourceRecord("headrace.source", 0, 0, 2**62, b"k", msgspec.json.encode(event), ())
        bench.work.fold(RecordChunk("headrace.source", 0, [record], 2**62), bench.clock.monotonic_s())
        bench.clock.advance(100)
        assert bench.flush() == []
        assert [letter.error_class for letter in bench.letters] == ["OutOfRange"]


def audio_bench() -> Bench:
    return Bench(SESSIONS, audio_messages.messages_of(SETTINGS, SESSIONS))


def retrieval_bench() -> Bench:
    return Bench(RETRIEVAL, retrieval_messages.messages_of(SETTINGS, RETRIEVAL))


def test_a_second_of_a_session_is_told_once_when_it_is_over_as_its_newest_value():
    bench = audio_bench()
    bench.send(report(0))
    assert bench.flush() == []
    bench.clock.advance(4)
    bench.send(report(4, after_s=4))
    (message,) = bench.flush()
    assert (message.channel, message.type, message.tenant_id) == ("voice:s1", "audio_quality_window", "acme")
    data = msgspec.json.decode(message.data)
    assert (data["reports"], data["lost"], data["loss_pct"], data["closed"]) == (1, 1, 2.0, True)
    assert data["speech_dbfs"] == pytest.approx(-20, abs=1e-4)
    assert "noise_dbfs" not in data
    assert [record.topic for record in bench.pushed] == ["headrace.push-latest"]
    assert bench.flush() == []


def test_a_report_that_its_producer_sends_again_counts_once():
    bench = audio_bench()
    bench.send(report(0), report(0))
    bench.flush()
    bench.send(report(0))
    bench.flush()
    assert [(row["reports"], row["n"]) for row in bench.summaries()] == [(1, 50)]


def test_a_tenants_row_has_all_its_sessions_once_and_tells_nobody():
    bench = Bench(TENANTS, audio_messages.NoMessages())
    bench.send(report(0), report(0, session_id="s2", lost=4), report(0), report(0, tenant_id="other"))
    bench.clock.advance(4)
    bench.send(report(4, after_s=4))
    assert bench.flush() == []
    assert [(row["reports"], row["lost"]) for row in bench.summaries()] == [(2, 5), (1, 1), (1, 1)]


def test_a_report_that_cannot_be_right_is_a_dead_letter_and_leaves_no_row():
    bench = audio_bench()
    bench.send(report(0, lost=51))
    bench.flush()
    assert [letter.error_class for letter in bench.letters] == ["OutOfRange"]
    assert bench.summaries() == []


def test_a_window_of_searches_is_told_while_it_runs_and_once_when_it_is_over():
    bench = retrieval_bench()
    bench.send(search(), search(status="error", results=0, scores=[], relevance=[]))
    (running,) = bench.flush()
    assert running.id.endswith(":running")
    bench.clock.advance(13)
    bench.send(search(after_s=13))
    told = [message for message in bench.flush() if not message.id.endswith(":running")]
    (closed,) = told
    data = msgspec.json.decode(closed.data)
    assert closed.channel == "rag:docs"
    assert (data["count"], data["errors"], data["judged"], data["mrr"]) == (2, 1, 1, 0.5)
    assert (data["recall_at_5"], data["context_precision"]) == (0.5, pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-6))
    topics = {record.topic for record in bench.pushed if dict(record.headers)["pid"] == closed.id.encode()}
    assert topics == {"headrace.push"}


def test_a_late_search_makes_a_new_revision_of_its_window():
    bench = retrieval_bench()
    bench.send(search())
    bench.clock.advance(13)
    bench.send(search(after_s=13))
    bench.flush()
    bench.send(search(after_s=1))
    told = [msgspec.json.decode(message.data) for message in bench.flush()]
    assert [(data["count"], data["revision"]) for data in told if data["closed"]] == [(2, 3)]
