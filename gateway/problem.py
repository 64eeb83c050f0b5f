"""What a request is told when it is refused: RFC 9457 problem+json, RFC 6750 challenges. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from contracts.errors import RateLimited, Shed

CONTENT_TYPE = "application/problem+json"


@dataclass
class Problem(Exception):  # noqa: N818 - RFC 9457's word for it
    """A refusal: status 400-599, a sentence for the caller, further members and headers."""

    status: int
    detail: str
    members: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The JSON text."""
        fields = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status}
        return json.dumps({**fields, "detail": self.detail, **self.members}).encode()

    def response(self) -> bytes:
        """The whole HTTP/1.1 response, for a connection that closes after it."""
        body = self.body()
        headers = {
            "Content-Type": CONTENT_TYPE,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{lines}\r\n".encode() + body


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
