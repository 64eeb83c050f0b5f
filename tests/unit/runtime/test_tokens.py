"""Tokens: what a good one says, and why each bad one is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import jwt
import pytest

from contracts.errors import SettingsError, TokenError
from runtime import tokens
from runtime.clock import ManualClock, SystemClock
from runtime.settings import AuthSettings

SECRET = "s" * 32
SETTINGS = AuthSettings.model_validate({"secret": SECRET})
CLAIMS = {
    "iss": "headrace",
    "aud": "headrace-gateway",
    "sub": "me",
    "exp": 2**40,
    "tenant_id": "t",
    "channels": ["a:*"],
}


def signed(secret: str = SECRET, algorithm: str = "HS256", **changed: object) -> str:
    payload = {name: value for name, value in (CLAIMS | changed).items() if value is not None}
    return jwt.encode(payload, secret, algorithm=algorithm)


def test_a_minted_token_says_who_and_what():
    token = tokens.mint(
        SETTINGS, SystemClock(), tenant_id="t", channels=("orders:*",), subject="page", lifetime_s=10_000_000
    )
    claims = tokens.verify(SETTINGS, token)
    assert (claims.tenant_id, claims.channels, claims.subject) == ("t", ("orders:*",), "page")
    assert claims.expires_s <= SystemClock().wall_s() + SETTINGS.max_age_s


def test_only_a_scope_that_names_operators_makes_one():
    assert all(tokens.verify(SETTINGS, signed(scope=scope)).operator for scope in ("operator", "x operator"))
    for scope in ("", "operators", ["operator"], None):
        assert not tokens.verify(SETTINGS, signed(scope=scope)).operator


def test_a_minted_token_is_an_operators_only_when_asked_for():
    for operator in (True, False):
        given = {"tenant_id": "t", "channels": (), "subject": "ann", "lifetime_s": 60.0, "operator": operator}
        assert tokens.verify(SETTINGS, tokens.mint(SETTINGS, SystemClock(), **given)).operator is operator  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "missing"),
        ("a.b.c", "malformed"),
        ("a.b.c\udcff", "malformed"),
        (signed(secret="x" * 32), "bad_signature"),
        (signed(exp=1), "expired"),
        (signed(aud="other"), "wrong_audience"),
        (signed(iss="other"), "wrong_issuer"),
        (signed(sub=None), "bad_claims"),
        (signed(exp=None), "bad_claims"),
        (signed(tenant_id=None), "bad_claims"),
        (signed(tenant_id=7), "bad_claims"),
        (signed(tenant_id="_system"), "bad_claims"),
        (signed(channels="orders:*"), "bad_claims"),
        (signed(channels=[1]), "bad_claims"),
        (signed(secret="s" * 64, algorithm="HS512"), "malformed"),
        (jwt.encode(CLAIMS, None, algorithm="none"), "malformed"),
    ],
)
def test_a_bad_token_is_refused_with_its_reason(token: str, reason: str):
    with pytest.raises(TokenError) as caught:
        tokens.verify(SETTINGS, token)
    assert caught.value.reason == reason
    assert not token or token not in str(caught.value)


def test_a_short_secret_is_refused():
    with pytest.raises(SettingsError, match=r"auth\.secret.*32.*5"):
        tokens.secret_of(AuthSettings.model_validate({"secret": "short"}))


def test_an_old_clock_mints_an_expired_token():
    clock = ManualClock(datetime(2020, 1, 1, tzinfo=UTC))
    token = tokens.mint(SETTINGS, clock, tenant_id="t", channels=(), subject="s", lifetime_s=60)
    with pytest.raises(TokenError, match="expired"):
        tokens.verify(SETTINGS, token)
