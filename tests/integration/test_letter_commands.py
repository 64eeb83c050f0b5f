from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from headrace.__main__ import app
from runtime.settings import Settings
from streams import postgres
from streams.dead_letters import DeadLetters
from tests.support.aio import run
from tests.support.letters import record_letter, row_letter
from tests.support.processes import environment_of

LETTERS = (
    record_letter(1),
    record_letter(2, error_class="BadJson", payload=b"\xff"),
    record_letter(3, source="retrieval"),
    row_letter(9),
)


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line over a database with four letters."""

    async def main() -> None:
        async with postgres.pool(settings.postgres, name="test", size=1) as pool:
            for letter in LETTERS:
                await DeadLetters(pool, settings.postgres).bury([letter])

    run(main())
    for name, value in environment_of(settings).items():
        if name.startswith("HEADRACE_"):
            monkeypatch.setenv(name, value)
    return CliRunner()


def called(cli: CliRunner, *arguments: str, status: int = 0) -> Result:
    result = cli.invoke(app, ["dead-letters", *arguments])
    assert result.exit_code == status, result.output
    return result


def listed(cli: CliRunner, *arguments: str) -> list[int]:
    answer = json.loads(called(cli, "list", "--json", *arguments).stdout)
    return [letter["id"] for letter in answer["letters"]]


def test_letters_are_listed_newest_first_by_filter_and_page_by_page(cli: CliRunner):
    assert listed(cli) == [4, 3, 2, 1]
    assert listed(cli, "--limit", "2", "--before", "4") == [3, 2]
    assert listed(cli, "--source", "orders", "--reason", "Unavailable") == [1]
    assert listed(cli, "2", "4") == [4, 2]
    assert listed(cli, "--since", "-1h", "--until", "now") == [4, 3, 2, 1]
    assert listed(cli, "--until", "-1h") == []
    assert listed(cli, "--before", str(2**63)) == [4, 3, 2, 1]
    called(cli, "list", "--until", "9999-12-31T23:59:59-14:00", status=2)
    assert "--before 3" in called(cli, "list", "--limit", "2").output
    groups = json.loads(called(cli, "list", "--count", "--json").stdout)["groups"]
    assert {(group["source"], group["reason"]): group["letters"] for group in groups}["orders", "BadJson"] == 1


def test_a_letter_is_shown_with_its_bytes_and_its_history(cli: CliRunner):
    called(cli, "discard", "2", "--why", "a test of ours")
    answer = json.loads(called(cli, "show", "2", "--json").stdout)
    assert answer["letter"]["payload_base64"] == "/w=="
    assert answer["letter"]["place"] == "p.orders/0/2"
    assert [(move["to"], move["why"]) for move in answer["history"]] == [("discarded", "a test of ours")]
    text = called(cli, "show", "2").output
    assert "a test of ours" in text
    assert "ce_id" in text


def test_a_requeue_names_its_letters_and_warns_when_nobody_sends(cli: CliRunner):
    result = called(cli, "requeue", "--source", "orders", "--why", "the shop is back")
    assert "requeue 1: 2 letters" in result.output
    assert "no control process runs" in result.output
    again = called(cli, "requeue", "--source", "orders", "--why", "again").output
    assert "no letter of these is dead" in again
    assert "stay" not in again
    (told,) = json.loads(called(cli, "requeues", "--json").stdout)["requeues"]
    assert (told["waiting"], told["asked"]) == (2, {"source": "orders"})
    assert "2 letters had not left" in called(cli, "cancel", "1", "--why", "a mistake").output
    assert listed(cli, "--state", "dead") == [4, 3, 2, 1]


def test_a_requeue_says_which_letters_nobody_takes_back(cli: CliRunner, settings: Settings):
    async def buried() -> None:
        async with postgres.pool(settings.postgres, name="test", size=1) as pool:
            await DeadLetters(pool, settings.postgres).bury([record_letter(5, source="backfill")])

    run(buried())
    assert "letters of backfill stay" in called(cli, "requeue", "5", "--why", "x").output
    assert "letters of backfill stay" in called(cli, "requeue", "1", "5", "--why", "x").output
    assert "stay" not in called(cli, "requeue", "2", "--why", "x").output
    # Warnings for people, of which there are two here, are not on the standard output of a program.
    told = called(cli, "requeue", "4", "5", "--why", "x", "--json")
    assert json.loads(told.stdout) == {"requeue_id": 3, "letters": 1}
    assert "no control process runs" in told.stderr


@pytest.mark.parametrize("rate", ["inf", "nan", "1e6", "0"])
def test_no_requeue_is_ordered_at_a_rate_that_nobody_can_keep(cli: CliRunner, rate: str):
    """One at an endless rate ended the control process, and each that took its place."""
    called(cli, "requeue", "1", "--why", "x", "--rate", rate, status=2)
    assert listed(cli, "--state", "dead") == [4, 3, 2, 1]


@pytest.mark.parametrize("command", ["requeue", "discard", "purge", "reclaim"])
def test_nothing_is_moved_unless_letters_are_named_or_all_are_meant(cli: CliRunner, command: str):
    called(cli, command, "--why", "x", status=2)
    called(cli, command, "--state", "dead", "--why", "x", status=2)
    called(cli, command, "--all", "--why", " ", status=2)
    called(cli, command, "--all", "--why", "x")


def test_letters_are_reclaimed_at_an_age_that_a_clock_can_show(cli: CliRunner):
    called(cli, "reclaim", "--all", "--why", "x", "--hours", "inf", status=2)
    called(cli, "reclaim", "--all", "--why", "x", "--hours", "1e9", status=2)


def test_only_closed_letters_are_purged(cli: CliRunner):
    called(cli, "discard", "1", "3", "--why", "no use")
    assert "2 letters purged" in called(cli, "purge", "--all", "--why", "asked to").output
    assert listed(cli) == [4, 2]
    assert "was purged" in called(cli, "show", "1").output
    called(cli, "show", "77", status=2)


def test_the_history_names_who_did_what_to_which_letter(cli: CliRunner):
    called(cli, "discard", "2", "--why", "no use")
    called(cli, "purge", "2", "--why", "asked to")
    lines = json.loads(called(cli, "history", "--json").stdout)["history"]
    assert [(line["letter"], line["to"], line["why"]) for line in lines] == [
        (2, "purged", "asked to"),
        (2, "discarded", "no use"),
    ]
    assert json.loads(called(cli, "history", "--actor", "nobody", "--json").stdout)["history"] == []
    assert "asked to" in called(cli, "history", "--limit", "1").output


def test_an_export_has_every_byte_of_every_letter(cli: CliRunner, tmp_path: Path):
    called(cli, "export", "--to", str(tmp_path / "letters.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "letters.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3, 4]
    assert lines[1]["payload_base64"] == "/w=="
    assert lines[0]["headers"][1] == {"name": "raw", "value_base64": "/wA="}
    assert called(cli, "export", "3").stdout.count("\n") == 1
    # Not 3: PostgreSQL has nothing to do with it.
    called(cli, "export", "--to", str(tmp_path / "none" / "letters.jsonl"), status=2)


def test_a_watch_shows_what_is_open(cli: CliRunner):
    called(cli, "requeue", "3", "--why", "x")
    output = called(cli, "watch", "--count", "1").output
    assert "requeue 1: 0 of 1 done" in output
    assert "BadJson" in output


def test_a_database_that_is_too_old_is_told_with_its_remedy(cli: CliRunner, settings: Settings):
    async def older() -> None:
        connection = await asyncpg.connect(settings.postgres.url)
        await connection.execute("DELETE FROM headrace.schema_version WHERE version > 2")
        await connection.close()

    run(older())
    called(cli, "list", status=3)


def test_what_was_given_is_refused_before_postgresql_is_asked(cli: CliRunner, monkeypatch: pytest.MonkeyPatch):
    """At the hour when it is needed PostgreSQL may be away, and a slip of the pen is told all the same."""
    monkeypatch.setenv("HEADRACE_POSTGRES__URL", "postgresql://postgres@127.0.0.1:1/postgres")
    called(cli, "list", status=3)
    for arguments in (
        ("list", "--state", "resolved"),
        ("watch", "--since", "soon"),
        ("export", "--until", "soon"),
        ("show", "0"),
        ("requeue", "--why", "x"),
        ("discard", "--all", "--why", " "),
        ("purge", "0", "--why", "x"),
        ("reclaim", "--why", "x"),
        ("cancel", "0", "--why", "x"),
    ):
        called(cli, *arguments, status=2)
