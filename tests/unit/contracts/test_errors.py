from __future__ import annotations

import re

import pytest

from contracts import errors


def leaves(root: type[errors.HeadraceError]) -> list[type[errors.HeadraceError]]:
    below = root.__subclasses__()
    return [leaf for each in below for leaf in leaves(each)] if below else [root]


def test_every_leaf_stands_in_the_tree_that_the_module_draws():
    drawn = re.findall(r"\+-- (\w+)", errors.__doc__ or "")
    for leaf in leaves(errors.HeadraceError):
        assert leaf.__module__ != "contracts.errors" or leaf.__name__ in drawn


def test_a_contract_error_names_event_field_limit_and_value():
    error = errors.OutOfRange(event="tool_call", field="latency_ms", limit="must be float >= 0.0", value=-1)
    assert str(error) == "OutOfRange: tool_call.latency_ms must be float >= 0.0 (got -1)"
    assert error.fields == {"event": "tool_call", "field": "latency_ms", "limit": "must be float >= 0.0", "value": "-1"}
    assert error.kind is errors.Kind.PERMANENT
    assert error.code == "OutOfRange"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 81, "x" * 80 + "... (81 long)"),
        ("x" * 80, "x" * 80),
        (b"\xff" * 3, "\\xff\\xff\\xff"),
        ("two\nlines", "two\\nlines"),
        ("\ud800", "\\ud800"),
        (10**5000, "an integer of 16610 bits"),
        ([10**5000], "a list with a very long integer"),
        (None, "None"),
        ("", ""),
    ],
    ids=["long", "fits", "bytes", "lines", "surrogate", "huge", "huge inside", "none", "empty"],
)
def test_a_value_is_shown_on_one_short_line(value: object, text: str):
    assert errors.shown(value) == text


def test_a_missing_server_never_shows_a_password():
    error = errors.ServerMissing(
        "PostgreSQL", "postgresql://shop:hunter2@db/shop", "refused by redis://:hunter2@cache", "start it"
    )
    assert "hunter2" not in str(error) + repr(error) + str(error.fields)
    assert str(error) == "PostgreSQL at postgresql://db/shop: refused by redis://cache; start it"
    assert error.kind is errors.Kind.TRANSIENT


def test_token_and_settings_errors_are_the_callers():
    assert errors.TokenError(reason="expired").reason == "expired"
    assert errors.TokenError("expired").kind is errors.SettingsError("x").kind is errors.Kind.CALLER
