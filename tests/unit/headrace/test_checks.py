from __future__ import annotations

import resource

import pytest

from headrace.checks.finding import Finding, Notebook, State, skew_of, version_of
from headrace.checks.kafka import judge_partitions, judge_retention, judge_sizes
from headrace.checks.machine import judge_files
from headrace.checks.postgres import COLUMNS, column_faults
from headrace.checks.redis import judge_info, parse_info
from runtime.settings import Settings
from streams import topics


def notebook() -> tuple[list[Finding], Notebook]:
    found: list[Finding] = []
    return found, Notebook("a server", found.append)


def states(found: list[Finding]) -> dict[str, State]:
    return {finding.check: finding.state for finding in found}


@pytest.mark.parametrize(("server_s", "skew_s"), [(99.0, -1.0), (100.0, 0.0), (100.5, 0.0), (101.0, 0.0), (103.0, 2.0)])
def test_a_clock_is_off_only_as_far_as_the_answer_proves(server_s: float, skew_s: float):
    assert skew_of(server_s, 100.0, 101.0) == skew_s


@pytest.mark.parametrize(("text", "numbers"), [("7.0.15", (7, 0, 15)), ("9.1.2-rc1", (9, 1)), ("", ()), ("x", ())])
def test_a_version_is_read_as_far_as_it_is_numbers(text: str, numbers: tuple[int, ...]):
    assert version_of(text) == numbers


def test_an_outbox_as_the_product_makes_it_has_no_faults():
    assert column_faults({name: types[0] for name, types in COLUMNS.items()} | {"tenant": "uuid"}) == []


def test_info_of_redis_is_read_from_text_and_from_a_parsed_reply():
    assert parse_info(b"# Server\r\nredis_version:7.0.15\r\n") == parse_info({"redis_version": "7.0.15"})


@pytest.mark.parametrize(
    ("changed", "check", "state"),
    [
        ({"redis_version": "6.2.1"}, "version", State.FAIL),
        ({"valkey_version": "9.0.0"}, "version", State.OK),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": "1000"}, "memory", State.FAIL),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": "0"}, "memory", State.WARN),
        ({"aof_enabled": "0"}, "durability", State.WARN),
        ({}, "durability", State.OK),
    ],
)
def test_each_trait_of_redis_is_judged_by_itself(changed: dict[str, str], check: str, state: State):
    found, notes = notebook()
    judge_info({"redis_version": "7.2.4", "maxmemory_policy": "noeviction", "aof_enabled": "1"} | changed, notes)
    assert states(found)[check] is state


def test_topics_that_keep_too_little_are_named_and_endless_ones_are_right(clean_environment: None):
    del clean_environment
    settings = Settings()
    names = [topic.name for topic in topics.wanted(settings)]
    found, notes = notebook()
    judge_retention(settings, dict.fromkeys(names, -1), notes)
    judge_retention(settings, dict.fromkeys(names, -1) | {names[0]: 1000}, notes)
    assert [finding.state for finding in found] == [State.OK, State.FAIL]
    assert names[0] in found[1].found


def test_topics_and_changelogs_that_take_less_than_is_sent_are_named(clean_environment: None):
    del clean_environment
    settings = Settings()
    found, notes = notebook()
    judge_sizes(settings, {"headrace.late": 2_162_688, "headrace-worker-tool_latency-changelog": 2_097_152}, notes)
    judge_sizes(settings, {"headrace.late": 2_097_152, "headrace-worker-tool_latency-changelog": 1_048_588}, notes)
    assert [finding.state for finding in found] == [State.OK, State.WARN]
    assert "headrace.late takes 2097152 of 2162688" in found[1].found
    assert "headrace-worker-tool_latency-changelog takes 1048588 of 2097152" in found[1].found


def test_topics_with_another_number_of_partitions_are_named(clean_environment: None):
    del clean_environment
    settings = Settings()
    names = [topic.name for topic in topics.wanted(settings)]
    found, notes = notebook()
    judge_partitions(settings, dict.fromkeys(names, settings.kafka.partitions) | {names[1]: 99}, notes)
    assert states(found) == {"topics": State.OK, "partitions": State.WARN}
    assert f"{names[1]} has 99" in found[1].found


@pytest.mark.parametrize(
    ("soft", "hard", "state"),
    [
        (1024, 1_000_000, State.WARN),
        (20_000, 20_000, State.OK),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, State.OK),
    ],
)
def test_the_open_files_limit_has_to_cover_all_clients(soft: int, hard: int, state: State):
    found, notes = notebook()
    judge_files(soft, hard, 10_000, notes)
    assert found[0].state is state
