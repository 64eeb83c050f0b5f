"""A payload as a JSON object, after every check that needs no contract.

One pass of msgspec parses it and refuses most of what is wrong. What msgspec lets through (NUL, integers beyond 64
bits, deep nesting) leaves a trace in the bytes that is cheap to look for; only a payload with such a trace, or one
that was refused, is walked value by value to find the field to blame.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import msgspec

from contracts.errors import WHOLE, BadJson, BadText, ContractError, OutOfRange, TooLarge
from contracts.json_types import JsonObject
from contracts.names import LOCAL_LIMITS

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
# 2**63 has 19 digits: fewer in a row cannot leave 64 bits.
_LONG_NUMBER = b"0" * 19
_INT_CHARS = 20

_EVENT_NAME = re.compile(r'"event"\s*:\s*"(\w{1,64})"')
_PEEK = 4096

_decoder = msgspec.json.Decoder()


def read(payload: bytes | str, event: str = "?") -> JsonObject:
    """The payload's object. `event` is only for messages.

    Raises:
        TooLarge: more than 1 MiB, or nested deeper than 32 levels.
        BadJson: not one JSON object in UTF-8.
        BadText: a NUL or a lone surrogate in a text or a key.
        OutOfRange: an integer outside signed 64 bits, or a number that is not finite.
    """
    raw = _bytes_of(payload, event)
    try:
        document = _decoder.decode(raw)
    except RecursionError:
        raise _too_deep(event, WHOLE) from None
    except ValueError as error:
        raise _refusal(raw, event, error) from None
    if not isinstance(document, dict):
        raise BadJson(event=event, field=WHOLE, limit="must be a JSON object", value=raw)
    if _is_suspect(raw):
        problem = _inspect(raw.decode(), event)
        if problem is not None:
            raise problem
    return document


def _bytes_of(payload: bytes | str, event: str) -> bytes:
    # A text has at least as many bytes as characters: a huge one is refused before it is copied.
    if len(payload) <= LOCAL_LIMITS.payload_bytes:
        try:
            raw = payload.encode() if isinstance(payload, str) else payload
        except UnicodeEncodeError as error:
            raise BadText(
                event=event, field=WHOLE, limit="must hold no lone surrogate", value=payload[error.start : error.end]
            ) from None
        if len(raw) <= LOCAL_LIMITS.payload_bytes:
            return raw
    unit = "bytes" if isinstance(payload, bytes) else "characters"
    limit = f"must have at most {LOCAL_LIMITS.payload_bytes} bytes"
    raise TooLarge(event=_peeked(payload, event), field=WHOLE, limit=limit, value=f"{len(payload)} {unit}")


def _peeked(payload: bytes | str, event: str) -> str:
    """The event's name where it stands near the beginning of a payload that is not parsed."""
    head = payload[:_PEEK]
    match = _EVENT_NAME.search(head if isinstance(head, str) else head.decode("utf-8", "replace"))
    return match[1] if match else event


def _is_suspect(raw: bytes) -> bool:
    return (
        b"\\u0000" in raw
        or raw.count(b"{") + raw.count(b"[") > LOCAL_LIMITS.depth
        or _LONG_NUMBER in raw.translate(_DIGITS)
    )


class _Number(str):
    """A number as it is written, so that none is rounded or refused before it is judged."""

    __slots__ = ()


class _Pairs(list[tuple[str, object]]):
    """An object as it is written, with repeated keys."""

    __slots__ = ()


def _refusal(raw: bytes, event: str, cause: ValueError) -> ContractError:
    """Why msgspec refused a payload, with the field where one is to blame."""
    try:
        problem = _inspect(raw.decode(), event)
    except UnicodeDecodeError as error:
        limit = f"must be UTF-8 ({error.reason} at byte {error.start})"
        return BadJson(event=event, field=WHOLE, limit=limit, value=raw[error.start :])
    except json.JSONDecodeError as error:
        limit = f"must be JSON ({error.msg} at character {error.pos})"
        return BadJson(event=event, field=WHOLE, limit=limit, value=error.doc[error.pos :])
    except RecursionError:
        return _too_deep(event, WHOLE)
    return problem or BadJson(event=event, field=WHOLE, limit=f"must be JSON ({cause})", value=raw)


def _inspect(text: str, event: str) -> ContractError | None:
    """The first value that no event may hold. Raises json.JSONDecodeError or RecursionError."""
    value: object = json.loads(
        text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number
    )
    if isinstance(value, _Pairs):
        named = [held for key, held in value if key == "event" and type(held) is str]
        event = named[-1] if named else event
    return next(_problems(event, "", value, 0), None)


def _problems(event: str, path: str, value: object, depth: int) -> Iterator[ContractError]:
    if isinstance(value, list) and depth >= LOCAL_LIMITS.depth:
        yield _too_deep(event, path)
    elif isinstance(value, _Pairs):
        for key, held in value:
            inner = f"{path}.{key}" if path else key
            yield from _text_problems(event, inner, key)
            yield from _problems(event, inner, held, depth + 1)
    elif isinstance(value, list):
        for index, held in enumerate(value):
            yield from _problems(event, f"{path}[{index}]", held, depth + 1)
    elif isinstance(value, _Number):
        yield from _number_problems(event, path, value)
    elif isinstance(value, str):
        yield from _text_problems(event, path, value)


def _text_problems(event: str, path: str, text: str) -> Iterator[ContractError]:
    if "\0" in text:
        yield BadText(event=event, field=path, limit="must hold no NUL", value=text)
    elif any("\ud800" <= character <= "\udfff" for character in text):
        yield BadText(event=event, field=path, limit="must hold no lone surrogate", value=text)


def _number_problems(event: str, path: str, number: _Number) -> Iterator[ContractError]:
    if number.lstrip("-").isdigit():
        # Longer than any 64-bit number, and int() refuses more than 4300 digits.
        if len(number) > _INT_CHARS or not LOCAL_LIMITS.int_min <= int(number) <= LOCAL_LIMITS.int_max:
            limit = f"must be within {LOCAL_LIMITS.int_min} and {LOCAL_LIMITS.int_max}"
            yield OutOfRange(event=event, field=path, limit=limit, value=str(number))
    elif not math.isfinite(float(number)):
        yield OutOfRange(event=event, field=path, limit="must be a finite number", value=str(number))


def _too_deep(event: str, path: str) -> TooLarge:
    limit = f"must be nested at most {LOCAL_LIMITS.depth} deep"
    return TooLarge(event=event, field=path, limit=limit, value=f"more than {LOCAL_LIMITS.depth}")
