"""The gateway's refusals: problem+json (`runtime.problem`) with RFC 6750's challenges. Pure."""

from __future__ import annotations

import math

from contracts.errors import RateLimited, Shed
from runtime.problem import Problem

__all__ = ["Problem", "forbidden_channel", "overloaded", "unauthorized"]


def unauthorized(reason: str) -> Problem:
    """401 for a token that is missing or bad; `reason` as in contracts.errors.TokenError."""
    if reason == "missing":
        challenge = 'Bearer realm="headrace"'
        detail = "a token is needed: Authorization: Bearer …, or the session cookie of POST /v1/session"
    else:
        challenge = f'Bearer realm="headrace", error="invalid_token", error_description="{reason}"'
        detail = f"the token is not valid: {reason}"
    return Problem(401, detail, {"reason": reason}, {"WWW-Authenticate": challenge})


def forbidden_channel(channel: str) -> Problem:
    """403 for a channel that the token does not cover."""
    return Problem(
        403,
        f"the token does not cover the channel {channel}",
        {"channel": channel},
        {"WWW-Authenticate": 'Bearer realm="headrace", error="insufficient_scope"'},
    )


def overloaded(error: RateLimited | Shed) -> Problem:
    """429 for a tenant that asks for too much, 503 for a gateway that cannot do more; both say when to ask again."""
    headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, RateLimited):
        return Problem(429, str(error), {"scope": error.scope, "retry_after_s": error.retry_after_s}, headers)
    return Problem(503, str(error), {"reason": error.reason, "retry_after_s": error.retry_after_s}, headers)
