"""What the experiments agent makes of records: batches of rows, results, letters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.come_back import KEY
from agents.effects import Effects
from agents.experiment_messages import MOST_ARMS, messages_of
from agents.experiments import Around, ExperimentWork
from agents.metrics import AgentMetrics
from contracts.names import LOCAL_LIMITS, TenantId
from contracts.requeue import Origin, Requeued, to_headers
from runtime.clock import ManualClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.kafka_log import Outgoing
from tables import ab_results
from tables.ab_partition import AbPartition
from tables.ab_reading import rows_of
from tables.ab_results import AbState
from tables.incarnations import META_KEY, incarnation_of
from tables.recovery import Progress
from tables.row_codec import RowCodec
from tables.rows import INCARNATION_SHIFT, WindowKey, header_of, newest
from tables.store import MemoryStore
from tests.support.ab_recount import LogRecord as Recounted
from tests.support.ab_recount import differences, recount
from tests.support.chunks import LogRecord, chunk

START = datetime(2026, 1, 1, tzinfo=UTC)
TENANT = "t1"
NO_PROGRESS = Progress(0, 0)


@dataclass
class Local:
    """A worker's partitions, as `tables.routing.LocalRows` has them."""

    rows: MemoryStore
    active: frozenset[int]
    progress: Progress = NO_PROGRESS


class Bench:
    """One partition, its changelog and a clock."""

    def __init__(self, *, source: str = "topic-1", batch_bytes: int = 900_000, unit_outcomes: int = 1000) -> None:
        settings = Settings()
        ab = settings.ab_results.model_copy(update={"unit_outcomes": unit_outcomes})
        self.settings = settings.model_copy(update={"ab_results": ab})
        self.batch_bytes = batch_bytes
        self.clock = ManualClock(START)
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.pushed: list[Outgoing] = []
        self.log: list[Recounted] = []
        self.offset = -1
        self.restart(source)

    def restart(self, source: str = "topic-1") -> None:
        store = MemoryStore()
        for key, value in self.changelog:
            store.write(0, [(key, value if value is None else newest(store.get(0, key), value))])
        self.local = Local(store, frozenset({0}))
        self.kind = ab_results.kind(self.settings)
        metrics, messages = AgentMetrics(Metrics()), messages_of(self.settings)
        around = Around(self.kind, self.local, messages, metrics, self.clock, self.settings, {})
        most = self.settings.ab_results.unit_outcomes
        rows = AbPartition(0, self.kind, store, most_outcomes=most, batch_bytes=self.batch_bytes)
        self.work = ExperimentWork(rows, incarnation_of(store, 0, source), around, store.get(0, KEY))

    def assign(self, unit: str, arm: str, **more: object) -> None:
        self.send({"event": "ab_test_assignment", "unit": unit, "arm": arm} | more)

    def outcome(self, unit: str, value: float, **more: object) -> None:
        event = {"event": "ab_test_outcome", "unit": unit, "metric": "spend", "kind": "mean", "value": value}
        self.send(event | more)

    def send(self, event: dict[str, Any], *, ce_id: str = "") -> None:
        common = {"version": "1.0", "tenant_id": TENANT, "experiment": "x", "ts": self.clock.now().isoformat()}
        self.offset += 1
        value = json.dumps(common | event).encode()
        self.log.append(Recounted(0, self.offset, value, ce_id))
        self.deliver(self.log[-1:])

    def deliver(self, records: list[Recounted]) -> None:
        stamp_ms = int(1000 * self.clock.wall_s())
        made = [
            LogRecord(r.value, r.offset, stamp_ms, headers=(("ce_id", r.ce_id.encode()),) if r.ce_id else ())
            for r in records
        ]
        self.work.fold(chunk(made), self.clock.monotonic_s())

    def flush(self) -> Effects:
        effects = self.work.take(self.clock.monotonic_s())
        for batch in effects.row_batches:
            self.changelog += batch
            self.local.rows.write(0, batch)
        self.pushed += effects.push
        self.work.settled(effects)
        return effects

    def states(self) -> dict[WindowKey, AbState]:
        codec: RowCodec[AbState] = RowCodec(self.kind)
        rows = ((codec.decode_key(key), raw) for key, raw in self.local.rows.items(0) if key != META_KEY)
        return {key: codec.decode(raw).state for key, raw in rows if key is not None}

    def results(self) -> list[dict[str, Any]]:
        self.clock.advance(1.5)
        before = len(self.pushed)
        self.flush()
        return [json.loads(record.value or b"")["data"] for record in self.pushed[before:]]


def test_an_outcome_counts_in_the_arm_of_its_unit_even_when_the_exposure_comes_later():
    bench = Bench()
    bench.outcome("u1", 5.0)
    bench.clock.advance(1)
    bench.assign("u1", "b", ts=START.isoformat())
    bench.outcome("u1", 7.0)
    bench.flush()
    assert differences(bench.states(), recount(bench.log)) == []
    (state,) = [state for key, state in bench.states().items() if key.subject == ("x", "0", "b", "spend")]
    assert state.moments["mean"].mean(0) == 12.0


def test_the_same_envelope_is_one_outcome_and_the_same_value_twice_is_two():
    bench = Bench()
    bench.assign("u1", "b")
    event = {"event": "ab_test_outcome", "unit": "u1", "metric": "spend", "kind": "mean", "value": 3.0}
    for ce_id in ("e1", "e1", "", ""):
        bench.send(event, ce_id=ce_id)
    bench.flush()
    assert differences(bench.states(), recount(bench.log)) == []
    (state,) = [state for key, state in bench.states().items() if key.subject[3] == "spend"]
    assert state.moments["mean"].mean(0) == 9.0


def test_records_that_come_again_after_a_crash_change_nothing():
    bench = Bench()
    for number in range(20):
        bench.assign(f"u{number % 5}", "b" if number % 2 else "control")
        bench.outcome(f"u{number % 5}", float(number))
    bench.flush()
    before = bench.states()
    bench.restart()
    bench.deliver(bench.log)
    assert bench.flush().row_batches == ()
    assert bench.states() == before


def test_a_flush_that_is_too_large_for_one_batch_has_several_and_each_is_a_state_of_the_log():
    bench = Bench(batch_bytes=30_000)
    for number in range(100):
        bench.assign(f"u{number}", "b" if number % 2 else "control")
        bench.outcome(f"u{number}", float(number), metric=f"m{number % 10}")
    batches = bench.flush().row_batches
    assert len(batches) > 2
    for count in range(1, len(batches) + 1):
        bench.changelog = [change for batch in batches[:count] for change in batch]
        bench.restart()
        folded = max(header_of(raw).position for _, raw in bench.local.rows.items(0)) + 1
        assert differences(bench.states(), recount(bench.log[:folded])) == []


def test_what_does_not_decode_or_is_dated_ahead_is_buried_and_the_rest_is_counted():
    bench = Bench()
    bench.assign("u1", "b")
    bench.assign("u2", "b", epoch=-1)
    bench.assign("u3", "b", ts=(START + timedelta(days=1)).isoformat())
    letters = bench.flush().letters
    assert [(letter.offset, letter.error_class) for letter in letters] == [(1, "OutOfRange"), (2, "OutOfRange")]
    assert differences(bench.states(), recount(bench.log[:1])) == []


def test_a_unit_keeps_as_many_outcomes_as_it_may_and_further_ones_are_buried_with_the_limit():
    bench = Bench(unit_outcomes=3)
    bench.assign("u1", "b")
    for number in range(5):
        bench.outcome("u1", 1.0, event_id=f"e{number}")
    bench.outcome("u1", 1.0, event_id="e0")
    bench.outcome("u2", 1.0)
    letters = bench.flush().letters
    assert [letter.offset for letter in letters] == [4, 5]
    assert "unit must have at most ab_results.unit_outcomes = 3 outcomes (got u1)" in letters[0].error_text


def test_an_event_whose_rows_fit_no_batch_is_buried():
    bench = Bench(batch_bytes=5_000)
    for number in range(5):
        bench.outcome("u1", 1.0, metric=f"m{number}")
    bench.assign("u1", "b")
    (letter,) = bench.flush().letters
    assert (letter.offset, letter.error_class) == (5, "TooLarge")


def test_results_are_told_when_they_are_stored_at_most_once_a_second():
    bench = Bench()
    for number in range(10):
        arm = "b" if number % 2 else "control"
        bench.assign(f"u{number}", arm)
        bench.outcome(f"u{number}", 10.0 + number + (5 if arm == "b" else 0))
    assert bench.flush().push == ()
    (result,) = bench.results()
    assert (result["metric"], result["control"], result["partitions"]) == ("spend", "control", 1)
    assert [(arm["arm"], arm["units"], arm["n"], arm["mean"]) for arm in result["arms"]] == [
        ("b", 5, 5, 20.0),
        ("control", 5, 5, 14.0),
    ]
    assert result["arms"][0]["lift"] == pytest.approx(6 / 14)
    bench.outcome("u0", 1.0)
    bench.flush()
    assert bench.flush().push == ()
    (later,) = bench.results()
    assert later["revision"] > result["revision"]
    assert bench.results() == []


def test_a_new_unit_changes_the_result_of_every_metric():
    bench = Bench()
    bench.assign("u1", "b")
    bench.outcome("u1", 4.0)
    bench.outcome("u1", 1.0, metric="bought", kind="binary")
    bench.flush()
    assert {result["metric"] for result in bench.results()} == {"spend", "bought"}
    bench.assign("u2", "b")
    bench.flush()
    told = {result["metric"]: result["arms"][0]["mean"] for result in bench.results()}
    assert told == {"spend": 2.0, "bought": 0.5}


def test_records_of_a_topic_that_was_made_again_are_no_repeats():
    bench = Bench()
    bench.assign("u1", "b")
    assert META_KEY in [key for batch in bench.flush().row_batches for key, _ in batch]
    bench.restart("topic-2")
    bench.offset = -1
    bench.assign("u1", "b", experiment="y")
    (batch,) = bench.flush().row_batches
    assert META_KEY in [key for key, _ in batch]
    positions = {header_of(raw).position for key, raw in batch if raw is not None and key != META_KEY}
    assert positions == {1 << INCARNATION_SHIFT}


def test_an_experiment_with_a_thousand_arms_still_makes_messages_that_brokers_take():
    bench = Bench()
    for number in range(1000):
        bench.assign(f"u{number}", f"{number:03}{'a' * 250}")
        bench.outcome(f"u{number}", 1.0)
    bench.assign("one", "control")
    bench.assign("two", "big")
    bench.assign("three", "big")
    bench.flush()
    (result,) = bench.results()
    assert len(bench.pushed[-1].value or b"") < LOCAL_LIMITS.payload_bytes / 4
    names = [arm["arm"] for arm in result["arms"]]
    assert (len(names), result["of_arms"], result["control"]) == (MOST_ARMS, 1002, "control")
    assert {"big", "control"} < set(names)


def test_an_experiment_with_too_many_rows_to_read_at_once_is_not_told():
    bench = Bench()
    bench.assign("u1", "b")
    bench.outcome("u1", 1.0)
    bench.flush()
    of = (bench.kind, bench.local.rows, [0], TenantId(TENANT), "x", 0)
    assert len(rows_of(*of, {"spend"}, most_rows=2)) == 2
    assert rows_of(*of, {"spend"}, most_rows=1) == {}


def test_results_of_experiments_whose_names_hold_colons_do_not_replace_each_other():
    bench = Bench()
    bench.assign("u1", "b", experiment="x:1", epoch=2)
    bench.outcome("u1", 1.0, experiment="x:1", metric="m")
    bench.assign("u2", "b", experiment="x", epoch=1)
    bench.outcome("u2", 1.0, experiment="x", metric="2:m")
    bench.flush()
    assert len(bench.results()) == 2
    assert len({dict(record.headers)["ck"] for record in bench.pushed[-2:]}) == 2


def letter(seq: int, event: dict[str, Any], *, ce_id: str = "", at: datetime = START) -> LogRecord:
    """A letter that came back, sent two minutes later."""
    common = {"version": "1.0", "tenant_id": TENANT, "experiment": "x", "ts": at.isoformat()}
    back = Requeued(Origin("headrace.experiments", "1a2b", 0, 500 + seq), 100 + seq, seq)
    own = [("ce_id", ce_id.encode())] if ce_id else []
    stamp_ms = int(1000 * at.timestamp()) + 120_000
    return LogRecord(json.dumps(common | event).encode(), seq, stamp_ms, headers=[*own, *to_headers(back)])


SPENT = {"event": "ab_test_outcome", "unit": "u", "metric": "spend", "kind": "mean", "value": 5}


def test_a_letter_counts_in_the_arm_of_its_unit_once_and_its_row_is_a_newer_revision():
    bench = Bench()
    bench.assign("u", "b")
    bench.outcome("u", 3)
    bench.flush()
    codec: RowCodec[AbState] = RowCodec(bench.kind)

    def spend() -> tuple[float, int]:
        (raw,) = [
            raw
            for key, raw in bench.local.rows.items(0)
            if (found := codec.decode_key(key)) and found.subject[-1] == "spend"
        ]
        row = codec.decode(raw)
        return row.state.moments["mean"].mean(0), row.revision

    before = spend()
    back = [letter(7, SPENT, ce_id="late"), letter(7, SPENT, ce_id="late")]
    bench.work.take_back(chunk(back, topic="headrace.retry.experiments"), 0.0)
    assert bench.flush().recovered == ((107, 7),)
    after = spend()
    assert (before[0], after[0]) == (3.0, 8.0)
    assert after[1] > before[1]
    bench.restart()
    bench.work.take_back(chunk(back, topic="headrace.retry.experiments"), 0.0)
    bench.flush()
    assert spend() == after


def test_a_letter_that_died_behind_its_rows_and_before_its_number_is_known_to_its_unit():
    bench = Bench()
    bench.assign("u", "b")
    bench.flush()
    back = chunk([letter(7, SPENT)], topic="headrace.retry.experiments")
    bench.work.take_back(back, 0.0)
    rows, number = bench.work.take(0.0).row_batches
    assert number[0][0] == KEY
    bench.changelog += rows
    bench.restart()
    states = bench.states()
    bench.work.take_back(chunk([letter(7, SPENT)], topic="headrace.retry.experiments"), 0.0)
    assert bench.flush().recovered == ((107, 7),)
    assert bench.states() == states


def test_what_was_refused_for_a_limit_counts_when_it_comes_back_under_a_higher_one_and_else_is_dead_again():
    bench = Bench(unit_outcomes=1)
    bench.assign("u", "b")
    bench.outcome("u", 3)
    bench.work.take_back(chunk([letter(7, SPENT)], topic="headrace.retry.experiments"), 0.0)
    (again,) = bench.flush().letters
    assert (again.error_class, again.requeue_seq, again.offset) == ("OutOfRange", 7, 507)
    higher = Bench(unit_outcomes=2)
    higher.changelog = bench.changelog
    higher.restart()
    higher.work.take_back(chunk([letter(8, SPENT)], topic="headrace.retry.experiments"), 0.0)
    assert higher.flush().recovered == ((108, 8),)


@given(st.lists(st.tuples(st.sampled_from("uv"), st.sampled_from("ab"), st.booleans(), st.booleans()), max_size=12))
def test_letters_and_records_give_the_same_results_as_if_all_had_been_sound(
    events: list[tuple[str, str, bool, bool]],
):
    mixed, plain = Bench(), Bench()
    for at, (unit, arm, is_outcome, is_letter) in enumerate(events):
        outcome = {"event": "ab_test_outcome", "unit": unit, "metric": "spend", "kind": "mean", "value": at}
        event = outcome if is_outcome else {"event": "ab_test_assignment", "unit": unit, "arm": arm}
        event["ts"] = (START + timedelta(seconds=at)).isoformat()
        plain.send(event, ce_id=f"e{at}")
        if is_letter:
            found = [letter(at, event, ce_id=f"e{at}")]
            mixed.work.take_back(chunk(found, topic="headrace.retry.experiments"), 0.0)
            mixed.flush()
        else:
            mixed.send(event, ce_id=f"e{at}")
        if at % 3 == 0:
            mixed.flush()
    for bench in (mixed, plain):
        bench.flush()
        bench.restart()
    assert mixed.states() == plain.states()
