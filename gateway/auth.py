"""Who is asking: a bearer token, or the page's cookie that holds one.

EventSource sends no Authorization header, so the page trades its token for an HttpOnly cookie. A cookie is sent by
the browser whoever made the request; therefore it is SameSite=Strict, and a request that changes something with it
must come from an allowed origin. Cookies know no port: over plain HTTP the name carries it, so that two gateways on
one machine do not sign each other's users out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from contracts.errors import TokenError
from gateway.problem import Problem, unauthorized
from runtime.tokens import TokenClaims, verify

if TYPE_CHECKING:
    from gateway.observed import GatewayMetrics
    from runtime.settings import Settings

_BEARER = "bearer "


class Caller(NamedTuple):
    """A verified caller and the token it came with."""

    claims: TokenClaims
    token: str


class Doorkeeper:
    """Verifies requests; `headers` have lower-case names. Tells nothing but the reason of a refusal."""

    def __init__(self, settings: Settings, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        https = settings.gateway.public_https
        self._scheme = "https" if https else "http"
        self.cookie = "__Host-headrace_session" if https else f"headrace_session_{settings.gateway.port}"

    def admit(self, headers: Mapping[str, str]) -> Caller:
        """The caller of a request. Raises Problem 401 for a token that is missing or bad."""
        token = self._token(headers)
        try:
            return Caller(verify(self._settings.auth, token), token)
        except TokenError as error:
            self._metrics.auth_failures.labels(error.reason).inc()
            raise unauthorized(error.reason) from None

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise Problem 403 when a browser sends this from a page that is not ours.

        A request without Origin is not a browser's (all send it with POST and DELETE) and passes.
        """
        origin = headers.get("origin")
        if origin is None or origin == f"{self._scheme}://{headers.get('host', '')}":
            return
        if origin not in self._settings.gateway.allowed_origins:
            self._metrics.auth_failures.labels("origin").inc()
            raise Problem(403, f"requests from {origin[:200]} are not allowed; see gateway.allowed_origins")

    def set_cookie(self, token: str, lifetime_s: int) -> str:
        """The Set-Cookie value that keeps `token` for `lifetime_s`; 0 removes it."""
        secure = "; Secure" if self._settings.gateway.public_https else ""
        return f"{self.cookie}={token}; Path=/; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{secure}"

    def _token(self, headers: Mapping[str, str]) -> str:
        authorization = headers.get("authorization", "")
        if authorization:
            return authorization[len(_BEARER) :].strip() if authorization.lower().startswith(_BEARER) else ""
        # Not http.cookies: it stops at the first cookie that it finds odd, and other programs on this host set theirs.
        pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        return next((value for name, _, value in pairs if name == self.cookie), "")
