"""A breaker's change of state, as clients are told."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from contracts.fields import Id, Moment

BreakerState: TypeAlias = Literal["closed", "open", "half_open", "forced_open", "disabled", "metrics_only"]


class BreakerChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The breaker of `dependency` in one `process` went from one state to another at `at` (aware)."""

    dependency: Id
    process: Id
    before: BreakerState
    after: BreakerState
    reason: str
    at: Moment
