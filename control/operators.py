"""Who may use the API: a bearer token with the scope `operator`. Its subject is the name in the audit.

Cookies are the gateway's affair: it hands a session's token on as a bearer token, after it has checked where the
request comes from. So a browser that is tricked into calling this process directly brings nothing along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.errors import TokenError
from runtime.problem import Problem
from runtime.tokens import TokenClaims, verify

if TYPE_CHECKING:
    from control.observed import ControlMetrics
    from runtime.settings import AuthSettings

_BEARER = "bearer "


class Operators:
    """Verifies requests; tells nothing but the reason of a refusal."""

    def __init__(self, settings: AuthSettings, metrics: ControlMetrics) -> None:
        self._settings = settings
        self._metrics = metrics

    def admit(self, authorization: str) -> TokenClaims:
        """The operator of a request. Raises Problem 401 for a bad token, 403 for one of a client."""
        token = authorization[len(_BEARER) :].strip() if authorization.lower().startswith(_BEARER) else ""
        try:
            claims = verify(self._settings, token)
        except TokenError as error:
            self._metrics.auth_failures.labels(error.reason).inc()
            challenge = {"WWW-Authenticate": 'Bearer realm="headrace", error="invalid_token"'}
            raise Problem(401, f"the token is not valid: {error.reason}", {"reason": error.reason}, challenge) from None
        if not claims.operator:
            self._metrics.auth_failures.labels("not_operator").inc()
            challenge = {"WWW-Authenticate": 'Bearer realm="headrace", error="insufficient_scope", scope="operator"'}
            detail = "this takes an operator's token; `headrace token TENANT --operator` makes one"
            raise Problem(403, detail, {"reason": "not_operator"}, challenge)
        return claims
