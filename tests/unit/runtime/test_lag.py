"""Lag arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime

from runtime.lag import STALE_S, StageLag, lag_of, parse_stage, records_behind, seen_now, total


def test_a_stage_survives_its_json():
    stage = StageLag(3, 1.5, 100.0)
    assert parse_stage(stage.to_json()) == stage


def test_what_cannot_be_read_is_no_view():
    assert [parse_stage(text) for text in (None, "", "{", "[]", '{"count": 1}', "7")] == [None] * 6


def test_what_waits_grows_older_while_nobody_looks():
    assert seen_now(StageLag(3, 1.5, 100.0), 102.0).oldest_s == 3.5


def test_a_silent_teller_of_an_empty_stage_counts_as_lag_after_a_while():
    assert seen_now(StageLag(0, 0.0, 100.0), 100.0 + STALE_S).oldest_s == 0.0
    assert seen_now(StageLag(0, 0.0, 100.0), 110.0).oldest_s == 10.0


def test_counts_add_up_and_the_oldest_is_the_oldest_of_all():
    found = total([StageLag(2, 4.0, 100.0), None, StageLag(5, 1.0, 100.0)], 100.0)
    assert (found.count, found.oldest_s) == (7, 4.0)


def test_records_behind_are_counted_from_the_commit_to_the_true_end():
    begins, ends = {"a": 0, "b": 10, "c": 0}, {"a": 20, "b": 30, "c": 5}
    assert records_behind(begins, ends, {"a": 15, "b": 30}) == 5 + 0 + 5


def test_a_commit_outside_the_log_counts_what_is_really_there():
    assert records_behind({"a": 10}, {"a": 30}, {"a": 4}) == 20
    assert records_behind({"a": 0}, {"a": 3}, {"a": 900}) == 3


def test_the_message_holds_all_three_stages():
    found = lag_of(StageLag(1, 2.0, 50.0), [StageLag(4, 1.0, 50.0)], 9, 50.0)
    assert (found.outbox_rows, found.stream_entries, found.consumer_records) == (1, 4, 9)
    assert found.at == datetime.fromtimestamp(50.0, UTC)


def test_without_a_relay_there_is_no_outbox_lag_to_tell():
    assert lag_of(None, [], 0, 50.0).outbox_rows == 0
