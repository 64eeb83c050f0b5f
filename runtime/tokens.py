"""Tokens that say which tenant a client is and which channels it may have. The only importer of PyJWT.

HS256 with the algorithm pinned; `iss`, `aud`, `exp` and `sub` are required. Claims `tenant_id` and `channels`
(patterns, see contracts.names.channel_matches) are ours. `scope` holds words with spaces between (RFC 8693); `operator`
opens the control process' API, for all tenants, and the subject is the name in its audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jwt

from contracts.errors import SettingsError, TokenError
from contracts.names import TenantId

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import AuthSettings

MIN_SECRET_BYTES = 32
OPERATOR = "operator"


@dataclass(frozen=True)
class TokenClaims:
    """What a verified token says. `expires_s` is in seconds since the Unix epoch."""

    tenant_id: TenantId
    channels: tuple[str, ...]
    subject: str
    expires_s: float
    operator: bool = False


def secret_of(settings: AuthSettings) -> str:
    """The signing key.

    Raises:
        SettingsError: it is shorter than 32 bytes (RFC 7518 section 3.2 asks for the hash's length at least).
    """
    secret = settings.secret.get_secret_value()
    if len(secret.encode()) < MIN_SECRET_BYTES:
        got = len(secret.encode())
        raise SettingsError(
            f"auth.secret: needs at least {MIN_SECRET_BYTES} bytes (got {got}); set HEADRACE_AUTH__SECRET"
        )
    return secret


def mint(
    settings: AuthSettings,
    clock: Clock,
    *,
    tenant_id: str,
    channels: tuple[str, ...],
    subject: str,
    lifetime_s: float,
    operator: bool = False,
) -> str:
    """A signed token for one tenant and its channel patterns; `lifetime_s` is cut to `auth.max_age_s`.

    With `operator` it also opens the control process' API, for all tenants.
    """
    issued_s = clock.wall_s()
    payload = {
        "iss": settings.issuer,
        "aud": settings.audience,
        "sub": subject,
        "iat": int(issued_s),
        "exp": int(issued_s + min(lifetime_s, settings.max_age_s)),
        "tenant_id": tenant_id,
        "channels": list(channels),
    }
    if operator:
        payload["scope"] = OPERATOR
    return jwt.encode(payload, secret_of(settings), algorithm="HS256")


def verify(settings: AuthSettings, token: str) -> TokenClaims:
    """The claims of a valid token.

    Raises:
        TokenError: with reason missing, malformed, expired, bad_signature, wrong_audience, wrong_issuer or bad_claims.
    """
    if not token:
        raise TokenError(reason="missing")
    if not token.isascii():
        raise TokenError(reason="malformed")  # bytes of a header that are no text reach us as lone surrogates
    try:
        payload = jwt.decode(
            token,
            secret_of(settings),
            algorithms=["HS256"],
            audience=settings.audience,
            issuer=settings.issuer,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except jwt.ExpiredSignatureError:
        raise TokenError(reason="expired") from None
    except jwt.InvalidSignatureError:
        raise TokenError(reason="bad_signature") from None
    except jwt.InvalidAudienceError:
        raise TokenError(reason="wrong_audience") from None
    except jwt.InvalidIssuerError:
        raise TokenError(reason="wrong_issuer") from None
    except jwt.MissingRequiredClaimError:
        raise TokenError(reason="bad_claims") from None
    except jwt.InvalidTokenError:
        raise TokenError(reason="malformed") from None
    return _claims(payload)


def _claims(payload: dict[str, object]) -> TokenClaims:
    tenant_id, channels, expires = payload.get("tenant_id"), payload.get("channels"), payload.get("exp")
    if not isinstance(tenant_id, str) or not tenant_id or tenant_id.startswith("_"):
        raise TokenError(reason="bad_claims")
    if not isinstance(channels, list) or not all(isinstance(c, str) and c for c in channels):
        raise TokenError(reason="bad_claims")
    if not isinstance(expires, int):
        raise TokenError(reason="bad_claims")
    scope = payload.get("scope", "")
    operator = isinstance(scope, str) and OPERATOR in scope.split(" ")
    return TokenClaims(TenantId(tenant_id), tuple(channels), str(payload["sub"]), float(expires), operator)
