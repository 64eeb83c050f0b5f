from __future__ import annotations

from contracts.names import TenantId
from gateway.auth import Caller
from gateway.tables import FAILED, merged, parsed
from runtime.tokens import TokenClaims


def row(tool: str, start: str, revision: int, tenant: str = "acme") -> dict[str, object]:
    return {"tenant_id": tenant, "tool": tool, "window_start": start, "revision": revision}


def caller(*channels: str) -> Caller:
    return Caller(TokenClaims(TenantId("acme"), channels, "test", 0.0), "token")


def test_rows_of_other_tenants_and_channels_are_left_out():
    rows = [row("x", "1", 1), row("y", "1", 1), row("x", "1", 9, tenant="globex")]
    assert merged(rows, caller("tools:x")) == [row("x", "1", 1)]


def test_the_highest_revision_of_a_window_wins():
    rows = [row("x", "1", 5), row("x", "1", 7), row("x", "0", 2), row("x", "1", 6)]
    assert merged(rows, caller("tools:*")) == [row("x", "0", 2), row("x", "1", 7)]


def test_an_answer_that_is_not_a_tables_is_partial():
    assert parsed({"error": "no"}) == FAILED
    assert parsed({"rows": [row("x", "1", 1), {"tool": 3}], "partial": False}) == ([row("x", "1", 1)], True)
    assert parsed({"rows": [], "partial": True}).partial
    assert not parsed({"rows": [], "partial": False}).partial
