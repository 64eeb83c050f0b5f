"""The kinds of field that structs are made of; each is a type with its bounds, checked while decoding."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

from contracts.names import LOCAL_LIMITS, TenantId

# Text that becomes part of a key, a channel or a label. The codec also refuses control characters in it.
Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=LOCAL_LIMITS.id_chars)]
Tenant: TypeAlias = Annotated[TenantId, msgspec.Meta(min_length=1, max_length=LOCAL_LIMITS.id_chars)]

# RFC 3339 with an offset: a time without one would mean something else on another machine.
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LOCAL_LIMITS.int_max)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Milliseconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
# Bounded, because sums of it are kept in 64 bits.
LatencyMs: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=LOCAL_LIMITS.latency_ms)]
