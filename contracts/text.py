"""What a text may hold when it becomes part of a key, a channel or an SSE field."""

from __future__ import annotations

import re

from contracts.errors import BadText, ContractError, OutOfRange
from contracts.names import LOCAL_LIMITS

_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def has_control(text: str) -> bool:
    """Whether the text holds a control character (NUL, CR and LF are some) or a lone surrogate."""
    return _CONTROL.search(text) is not None


def problem_of_id(event: str, field: str, text: str) -> ContractError | None:
    """What makes a text unfit to be an id; None when nothing does."""
    most = LOCAL_LIMITS.id_chars
    if not 1 <= len(text) <= most:
        return OutOfRange(event=event, field=field, limit=f"must have 1 to {most} characters", value=text)
    if has_control(text):
        return BadText(event=event, field=field, limit="must hold no control character", value=text)
    return None
